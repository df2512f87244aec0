"""Draws the ground of a scene: surface, decals, stripes and the shadows on them."""

import cv2
import numpy as np

from trt_lane.datasets._canvas import Canvas, blurred_noise, fill_polygon, noise_tile
from trt_lane.datasets._ground_shapes import decal_polygons
from trt_lane.datasets._road_geometry import View
from trt_lane.datasets._road_scene import CastShadow, Scene, Stripe, Surface

_CELL_M, _CELLS = 0.04, 2048  # the profile across the road
_TEXTURE_PX_M, _GRAIN_PX_M = 0.05, 0.012
HAZE_M = 90.0  # at haze 1, the distance at which 1/e of a colour is left
_SHADOW_TINT = np.float32([0.82, 0.94, 1.0])  # what sky light leaves: shadows are bluish


def draw_ground(canvas: Canvas, scene: Scene) -> None:
    """Draw every row that shows ground."""
    rows = canvas.rows_px
    distance = scene.view.distance_m(rows)
    top = int(np.argmax(np.isfinite(distance)))
    z = distance[top:]
    columns = canvas.cols_px
    camera = scene.view.camera
    metres_per_col = z / camera.focal_px
    start = (columns[0] - camera.centre_col_px) * metres_per_col - scene.view.road.lateral_m(z)
    step = metres_per_col / canvas.scale[0]
    offsets = np.float32(start[:, None] + step[:, None] * np.arange(len(columns)))  # (R, W)
    depth = _row_depth_m(scene.view, rows[top:], canvas.scale[1])

    base = _surface_colour(scene.surface, offsets, step)
    texture = _texture(offsets, z, depth, _TEXTURE_PX_M, 1, scene.detail_seed)
    near = depth < 4 * _GRAIN_PX_M
    if near.any():
        grain = _texture(offsets[near], z[near], depth[near], _GRAIN_PX_M, 0, scene.detail_seed)
        texture[near] += 0.7 * grain * np.float32(1 - depth[near] / (4 * _GRAIN_PX_M))[:, None]
    light = 1 + base[..., 3] * texture
    if scene.surface.far_section:
        begin, factor = scene.surface.far_section
        share = np.clip((z - begin) / np.maximum(depth, 0.05) + 0.5, 0, 1) * (factor - 1) + 1
        light *= np.float32(share)[:, None]
    ground = base[..., :3] * light[..., None]
    np.clip(ground, 0, 255, out=ground)
    canvas.pixels[top:] = ground

    for k, decal in enumerate(scene.decals):
        canvas.blend(
            decal_polygons(scene.view, decal, scene.detail_seed + k),
            decal.colour,
            decal.opacity,
            wear=0.35,
            seed=scene.detail_seed + k,
        )
    for k, stripe in enumerate(scene.stripes):
        _draw_stripe(canvas, scene.view, stripe, top, z, depth, scene.detail_seed + 37 * k)
    if scene.shadows:
        shade = _shade(canvas, scene.view, scene.shadows, texture, top)
        strength = scene.light.shadow_strength * shade[..., None] * _SHADOW_TINT
        canvas.pixels[top:] = canvas.pixels[top:] * (1 - strength)
    if scene.light.wet:
        _make_wet(canvas.pixels[top:], scene, texture, z)
    haze = haze_at(scene, z)[:, None, None]
    if haze.max() > 0.01:
        far = haze[:, 0, 0] > 0.01
        part = canvas.pixels[top:][far]
        canvas.pixels[top:][far] = part + haze[far] * (np.float32(scene.sky.horizon) - part)


def _make_wet(ground: np.ndarray, scene: Scene, texture: np.ndarray, z: np.ndarray) -> None:
    """Darken the ground and let it mirror the sky, the more the flatter the view."""
    puddles = np.clip(0.35 + 0.3 * texture, 0, 1) * np.float32(z / (z + 25))[:, None]
    mirror = scene.light.wet * puddles[..., None]
    dark = ground * np.float32(1 - 0.3 * scene.light.wet)
    ground[:] = dark + mirror * (0.8 * np.float32(scene.sky.horizon) - dark)


def haze_at(scene: Scene, distance_m) -> np.ndarray:
    """Share of the horizon's colour at a distance."""
    return np.float32(1 - np.exp(-np.asarray(distance_m) * scene.light.haze / HAZE_M))


def _row_depth_m(view: View, rows_px: np.ndarray, scale: float) -> np.ndarray:
    """Metres of road that one pixel row covers."""
    ahead = view.distance_m(rows_px - 0.5 / scale)
    behind = view.distance_m(rows_px + 0.5 / scale)
    depth = ahead - behind
    return np.where(np.isfinite(depth), depth, np.nanmax(depth) if len(depth) > 1 else 1.0)


def _surface_colour(surface: Surface, offsets: np.ndarray, step: np.ndarray) -> np.ndarray:
    """(R, W, 4): colour and contrast of texture, filtered to each row's pixel width."""
    pyramid = _profile_pyramid(surface)
    level = np.clip(np.log2(np.maximum(step / _CELL_M, 1e-3)), 0, len(pyramid) - 1)
    across = offsets * np.float32(1 / _CELL_M) + _CELLS / 2
    level = np.repeat(np.float32(level)[:, None], offsets.shape[1], 1)
    return cv2.remap(pyramid, across, level, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _profile_pyramid(surface: Surface) -> np.ndarray:
    """(levels, cells, 4): the ground's colours from left to right, ever more blurred."""
    x = (np.arange(_CELLS) - _CELLS / 2) * _CELL_M
    left, right = surface.left_edge_m, surface.right_edge_m
    profile = np.empty((_CELLS, 4), np.float32)
    profile[:] = (*surface.terrain, surface.terrain_grain)
    paved = (x > left - surface.left_shoulder_m) & (x < right + surface.right_shoulder_m)
    profile[paved] = (*surface.shoulder, surface.grain * 1.5)
    road = (x > left) & (x < right)
    profile[road] = (*surface.road, surface.grain)
    for begin, end, factor in surface.strips:
        profile[(x > begin) & (x < end), :3] *= factor
    for track in surface.track_offsets_m:
        profile[:, :3] *= 1 - surface.track_depth * np.exp(-(((x - track) / 0.28) ** 2))[:, None]
    if surface.kerb:
        for edge, inward in ((left, 1), (right, -1)):
            kerb = np.abs(x - edge + inward * 0.1) < 0.09
            profile[kerb, :3] = np.float32(surface.road) * 1.3 + 12
            gutter = np.abs(x - edge - inward * 0.12) < 0.12
            profile[gutter, :3] *= 0.8
    levels = [profile]
    for octave in range(1, 6):
        levels.append(cv2.blur(levels[-1][None], (2**octave + 1, 1))[0])
    return np.stack(levels)


def _texture(offsets, z, depth, pixel_m: float, power: int, seed: int) -> np.ndarray:
    """Noise that lies on the ground, (R, W); rows of equal level share one look-up."""
    shift = np.random.default_rng([seed, power]).uniform(0, 512, 2)
    across = offsets * np.float32(1 / pixel_m) + np.float32(shift[0])
    along = np.float32(z / pixel_m % 512 + shift[1])
    level = np.clip(np.ceil(np.log2(np.maximum(depth / pixel_m, 0.5))), 0, 8).astype(int)
    out = np.empty(offsets.shape, np.float32)
    for k in np.unique(level):
        rows = np.flatnonzero(level == k)
        rows = slice(rows[0], rows[-1] + 1)
        column = np.repeat(along[rows, None], offsets.shape[1], 1)
        tile = blurred_noise(power, int(k))
        cv2.remap(
            tile, across[rows], column, cv2.INTER_LINEAR, out[rows], borderMode=cv2.BORDER_WRAP
        )
    return out


def _draw_stripe(canvas: Canvas, view: View, stripe: Stripe, top: int, z, depth, seed: int) -> None:
    """Blend a line into each row, exact for its width and dashes within a pixel.

    Only a band of columns around the line is touched. A pixel's cover is the overlap of the line's
    cross-section with the pixel's, which is wider where the line runs aslant.
    """
    seen = (z >= stripe.near_m) & (z <= stripe.far_m)
    if stripe.opacity <= 0.01 or not seen.any():
        return
    camera, scale = view.camera, canvas.scale[0]
    wobble = stripe.wobble_m * np.sin(z / 7 + stripe.phase_m) * np.sin(z / 2.3)
    offset = stripe.offset_m + wobble
    centre = camera.centre_col_px + camera.focal_px * (offset + view.road.lateral_m(z)) / z
    centre = (centre + 0.5) * scale - 0.5
    width = stripe.width_m * camera.focal_px / z * scale
    slant = np.diff(centre, prepend=2 * centre[0] - centre[1])
    spread = 1 + np.minimum(np.abs(slant), 60)
    reach = (width + spread) / 2
    frame_width = canvas.pixels.shape[1]
    seen &= (centre > -reach - 1) & (centre < frame_width + reach + 1)
    if not seen.any():
        return
    rows = np.flatnonzero(seen)
    band = int(np.ceil(2 * reach[rows].max())) + 2
    first = np.floor(centre[rows] - band / 2).astype(int)
    cols = first[:, None] + np.arange(band)
    gap = np.abs(cols - centre[rows, None])
    wide, aslant = width[rows, None], spread[rows, None]
    cover = np.clip((wide + aslant) / 2 - gap, 0, np.minimum(wide, aslant)) / aslant
    cover *= (_dash_share(stripe, z[rows], depth[rows]) * stripe.opacity)[:, None]
    if stripe.wear:
        tile = noise_tile(1)
        lateral = (cols - centre[rows, None]) / wide * stripe.width_m / 0.02 + seed % 512
        along = z[rows, None] / 0.05 + seed // 512
        flakes = tile[along.astype(int) % 512, lateral.astype(int) % 512]
        flakes = flakes * np.clip(0.15 / depth[rows, None], 0.25, 1)
        worn = np.clip((flakes + 2.2 - 3.4 * stripe.wear) / 1.2, 0, 1)
        cover *= worn * (1 - 0.35 * stripe.wear)
    inside = (cols >= 0) & (cols < frame_width) & (cover > 0.004)
    if not inside.any():
        return
    target = ((rows[:, None] + top) * frame_width + cols)[inside]
    pixels = canvas.pixels.reshape(-1, 3)
    old = pixels[target].astype(np.float32)
    # paint shows the grain of what it lies on
    ground = np.float32(old.mean(1, keepdims=True) / max(float(old.mean()), 1.0)) ** 0.35
    paint = np.float32(stripe.colour) * np.clip(ground, 0.8, 1.15)
    new = old + cover[inside][:, None].astype(np.float32) * (paint - old)
    pixels[target] = np.clip(new, 0, 255)


def _dash_share(stripe: Stripe, z: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Share of each row's stretch of road that a dash covers."""
    if not stripe.dash_m:
        return np.ones(len(z))

    def painted_until(s):
        turns = np.floor(s / stripe.period_m)
        return turns * stripe.dash_m + np.minimum(s - turns * stripe.period_m, stripe.dash_m)

    s = z + stripe.phase_m
    return (painted_until(s + depth / 2) - painted_until(s - depth / 2)) / depth


def _shade(
    canvas: Canvas, view: View, shadows: tuple[CastShadow, ...], texture: np.ndarray, top: int
) -> np.ndarray:
    """(R, W) in 0..1: how much of the sun the shadows take."""
    solid = np.zeros(canvas.pixels.shape[:2], np.uint8)
    leaves = np.zeros_like(solid)
    for shadow in shadows:
        outline = np.array(shadow.corners_m)
        steps = np.linspace(0, 1, 8)[:, None]
        edges = [a + (b - a) * steps for a, b in zip(outline, np.roll(outline, -1, 0), strict=True)]
        points = np.concatenate(edges)
        polygon = view.along_road(points[:, 0], 0.0, points[:, 1])
        fill_polygon(leaves if shadow.dapple else solid, canvas.own_pixels(polygon), 255)
    soft = max(0.4, 4 * canvas.scale[0])
    solid = cv2.GaussianBlur(solid[top:], (0, 0), soft).astype(np.float32) / 255
    leaves = cv2.GaussianBlur(leaves[top:], (0, 0), 2 * soft).astype(np.float32) / 255
    holes = np.clip(0.5 + 1.6 * (texture - 0.25), 0, 1)
    return np.maximum(solid, leaves * np.clip(1.15 - holes, 0, 1))
