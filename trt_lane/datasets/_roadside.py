"""Draws what stands beside the road, and the sky behind it."""

import math
from functools import lru_cache

import cv2
import numpy as np

from trt_lane.datasets._canvas import Canvas, noise_tile
from trt_lane.datasets._ground import HAZE_M, haze_at
from trt_lane.datasets._road_geometry import FULL_WIDTH_PX
from trt_lane.datasets._road_scene import Barrier, BarrierKind, Prop, PropKind, Scene
from trt_lane.datasets._vehicles import Glow

_LAMP_LIGHT = (150.0, 205.0, 250.0)


def draw_sky(canvas: Canvas, scene: Scene) -> None:
    """Draw sky and ridges down to where the ground begins."""
    height, width = canvas.pixels.shape[:2]
    sky, end_px = scene.sky, scene.view.ground_top_row_px()
    rng = np.random.default_rng([scene.detail_seed, 5])
    end = min(height, int(np.ceil((end_px + 1) * canvas.scale[1])) + 1)
    # what shines by itself must not be darkened by the night's ambient light
    lift = 1 / max(scene.light.ambient, 0.1)
    depth = np.clip(canvas.rows_px[:end] / max(end_px, 1), 0, 1)[:, None] ** 1.5
    gradient = np.float32(sky.zenith) * (1 - depth) + np.float32(sky.horizon) * depth
    y, x = rng.integers(0, 180, 2)
    cloud = cv2.resize(noise_tile(2)[y : y + 300, x : x + 330], (width, end))
    white = np.clip(sky.cloud * (0.15 + 0.5 * cloud), -0.1, 0.9)[..., None]
    tone = np.float32(1.1 * np.max(sky.horizon))
    painted = gradient[:, None] * (1 - white) + tone * white
    canvas.pixels[:end] = np.clip(painted * lift, 0, 255)
    cols = np.linspace(-20, FULL_WIDTH_PX + 20, 240)
    for k, ridge in enumerate(sky.hills_px):
        rough = cv2.GaussianBlur(rng.standard_normal((1, 240)), (0, 0), 16)[0] * 5
        leafy = cv2.GaussianBlur(rng.standard_normal((1, 240)), (0, 0), 0.8)[0]
        top = end_px - ridge * np.clip(0.75 + 0.6 * rough, 0.05, 2) - 1.5 * k * np.abs(leafy)
        share = (k + 1) / (len(sky.hills_px) + 1)
        shade = np.float64(sky.horizon) * (1 - share) + np.float64(sky.hill) * share
        outline = np.vstack(
            [np.stack([cols, top], 1), (cols[-1], end_px + 6), (cols[0], end_px + 6)]
        )
        canvas.fill(outline, np.clip(shade * lift, 0, 255).tolist())


def draw_prop(canvas: Canvas, scene: Scene, prop: Prop) -> list[Glow]:
    """Draw one thing; returns what of it shines."""
    return {
        PropKind.TREE: _draw_plant,
        PropKind.BUSH: _draw_plant,
        PropKind.POLE: _draw_pole,
        PropKind.LAMP: _draw_pole,
        PropKind.SIGN: _draw_sign,
        PropKind.BUILDING: _draw_building,
        PropKind.GANTRY: _draw_gantry,
    }[prop.kind](canvas, scene, prop)


def draw_barrier(
    canvas: Canvas, scene: Scene, barrier: Barrier, near_m: float, far_m: float
) -> list[Glow]:
    """Draw the stretch of a barrier between two distances; none of it shines."""
    z = np.geomspace(near_m, far_m, 6)
    if barrier.kind is BarrierKind.WALL:
        bands = ((0, 1, 0.75), (0.88, 1, 1.05))
    elif barrier.kind is BarrierKind.RAIL:
        bands = ((0.58, 1, 0.9), (0.74, 0.84, 0.6))
        _draw_posts(canvas, scene, barrier, np.arange(np.ceil(near_m / 4) * 4, far_m, 4.0), 0.13)
    else:
        bands = ((0.94, 1, 1.0), (0.2, 0.25, 0.9))
        step = 0.3 if near_m < 14 else 1.2
        posts = np.arange(np.ceil(near_m / step) * step, min(far_m, 60), step)
        _draw_posts(canvas, scene, barrier, posts, 0.035)
    heights = barrier.height_m * np.array([[[low], [high]] for low, high, _ in bands])
    bottom, top = np.moveaxis(scene.view.along_road(barrier.offset_m, heights, z), 1, 0)
    outlines = np.concatenate([bottom, top[:, ::-1]], 1)
    colours = [_hazed(scene, barrier.colour, float(z.mean()), light) for *_, light in bands]
    canvas.fill_all(outlines.reshape(-1, 2), [2 * len(z)] * len(bands), colours)
    return []


def _draw_posts(canvas, scene, barrier: Barrier, distances_m: np.ndarray, width_m: float) -> None:
    heights = np.array([[0.0], [barrier.height_m]])
    feet, tips = scene.view.along_road(barrier.offset_m, heights, distances_m)
    for foot, tip, z in list(zip(feet, tips, distances_m, strict=True))[::-1]:
        if -50 < foot[0] < FULL_WIDTH_PX + 50:
            width_px = width_m * scene.view.camera.focal_px / z
            canvas.line([foot, tip], _hazed(scene, barrier.colour, z, 0.7), width_px)


def _hazed(scene: Scene, colour, distance_m: float, light: float = 1.0) -> list[float]:
    haze = 1 - math.exp(-distance_m * scene.light.haze / HAZE_M)
    return [
        (1 - haze) * min(c * light, 255.0) + haze * h
        for c, h in zip(colour, scene.sky.horizon, strict=True)
    ]


def _foot(scene: Scene, prop: Prop) -> tuple[np.ndarray, float]:
    """Where the prop stands in the full frame, and pixels per metre there."""
    foot = scene.view.along_road(prop.offset_m, 0.0, prop.distance_m)
    return foot, scene.view.camera.focal_px / prop.distance_m


def _draw_plant(canvas: Canvas, scene: Scene, prop: Prop) -> list[Glow]:
    foot, scale = _foot(scene, prop)
    tree = prop.kind is PropKind.TREE
    height, width = prop.height_m * scale, prop.width_m * scale
    if not -width < foot[0] < FULL_WIDTH_PX + width:
        return []
    crown = 0.75 * height if tree else height
    if tree:
        trunk = np.stack([foot, foot - (0, 0.5 * height)])
        canvas.line(trunk, _hazed(scene, (38, 48, 58), prop.distance_m), 0.035 * height)
    tint = np.float32(_hazed(scene, prop.colour, prop.distance_m)) / 150
    haze = 0.3 * np.float32(scene.sky.horizon) * haze_at(scene, prop.distance_m)
    corner = foot - (width / 2, height)
    canvas.paste(_plant_sprite(prop.seed % 6), tint, haze, corner, (width, crown))
    return []


@lru_cache(maxsize=8)
def _plant_sprite(kind: int) -> tuple[np.ndarray, ...]:
    """(192, 192, 4) and halved copies: a crown of leaves, grey, lit from above; alpha last."""
    rng = np.random.default_rng([192, kind])
    y, x = np.mgrid[0:192, 0:192] / 96 - 1
    mass = np.zeros((192, 192))
    for _ in range(9):
        cx, cy, r = rng.uniform(-0.5, 0.5), rng.uniform(-0.45, 0.5), rng.uniform(0.25, 0.5)
        mass = np.maximum(mass, 1 - ((x - cx) ** 2 + (y - cy) ** 2) / r**2)
    oy, ox = rng.integers(0, 300, 2)
    leaves = noise_tile(1)[oy : oy + 192, ox : ox + 192]
    alpha = np.clip(4 * (mass + 0.15 * leaves - 0.1), 0, 1) * (mass > -0.12)
    alpha *= np.hypot(x, y) < 0.99
    light = 105 + 38 * leaves - 45 * y + 30 * mass
    sprite = np.clip(np.dstack([light, light, light, 255 * alpha]), 0, 255).astype(np.uint8)
    pyramid = [sprite]
    while pyramid[-1].shape[0] > 6:
        pyramid.append(cv2.resize(pyramid[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(pyramid)


def _draw_pole(canvas: Canvas, scene: Scene, prop: Prop) -> list[Glow]:
    foot, scale = _foot(scene, prop)
    top = foot - (0, prop.height_m * scale)
    tone = _hazed(scene, prop.colour, prop.distance_m)
    canvas.line([foot, top], tone, prop.width_m * scale)
    if prop.kind is PropKind.POLE:
        return []
    inward = -1 if prop.offset_m > 0 else 1
    arm = top + scale * np.array([2.0 * inward, -0.25])
    canvas.line([top, arm], tone, 0.6 * prop.width_m * scale)
    if not scene.light.night:
        return []
    return [Glow(float(arm[0]), float(arm[1]), 0.16 * scale + 1.0, _LAMP_LIGHT, 0.9)]


def _draw_sign(canvas: Canvas, scene: Scene, prop: Prop) -> list[Glow]:
    foot, scale = _foot(scene, prop)
    grey = _hazed(scene, (110, 110, 110), prop.distance_m)
    canvas.line([foot, foot - (0, prop.height_m * scale)], grey, 0.08 * scale)
    low, size = foot - (0, prop.height_m * scale), 0.5 * prop.width_m * scale
    colour = _hazed(scene, prop.colour, prop.distance_m)
    box = np.array([(-1, -0.6), (1, -0.6), (1, 0.6), (-1, 0.6)])
    canvas.fill(low + box * size, _hazed(scene, (225, 225, 225), prop.distance_m))
    canvas.fill(low + box * 0.92 * size, colour)
    for y in (-0.25, 0.2):
        canvas.line(low + np.array([(-0.6, y), (0.5, y)]) * size, (215,) * 3, 3)
    return []


def _draw_building(canvas: Canvas, scene: Scene, prop: Prop) -> list[Glow]:
    """Two faces: one along the road, one towards the camera."""
    side = 1 if prop.offset_m > 0 else -1
    front_x = prop.offset_m - side * prop.width_m / 2
    z0, z1 = prop.distance_m, prop.distance_m + prop.width_m

    rng = np.random.default_rng(prop.seed)
    storey = rng.uniform(2.8, 4.0)
    glass = np.array([95, 85, 75]) * rng.uniform(0.5, 1.2)
    lit = np.minimum(np.array([38.0, 75.0, 95.0]) / scene.light.ambient, 255)
    bays = int(rng.integers(1, 6))
    back_x, top = prop.offset_m + side * prop.width_m, prop.height_m
    faces = [  # x, z of two edges, then heights, light, colour
        (front_x, z0, back_x, z0, -0.5, top, 0.95, prop.colour),
        (front_x, z0, front_x, z1, -0.5, top, 0.72, prop.colour),
    ]
    for y in np.arange(1.0, top - 1.6, storey)[:6]:
        for k in range(bays):
            colour = lit if scene.light.night and rng.random() < 0.35 else glass
            a, b = (k + 0.15) / bays, (k + 0.85) / bays
            x0, x1 = front_x + (back_x - front_x) * a, front_x + (back_x - front_x) * b
            faces.append((x0, z0, x1, z0, y, y + 1.5, 1.0, colour))
            za, zb = z0 + (z1 - z0) * a, z0 + (z1 - z0) * b
            faces.append((front_x, za, front_x, zb, y, y + 1.5, 0.8, colour))
    x0, za, x1, zb, y0, y1 = np.array([f[:6] for f in faces]).T[:, :, None]
    corners = scene.view.along_road(
        np.hstack([x0, x1, x1, x0]), np.hstack([y0, y0, y1, y1]), np.hstack([za, zb, zb, za])
    )
    colours = [_hazed(scene, f[7], prop.distance_m, f[6]) for f in faces]
    canvas.fill_all(corners.reshape(-1, 2), [4] * len(faces), colours)
    return []


def _draw_gantry(canvas: Canvas, scene: Scene, prop: Prop) -> list[Glow]:
    half, z = prop.width_m / 2, prop.distance_m
    scale = scene.view.camera.focal_px / z
    grey = _hazed(scene, (105, 108, 108), z)
    for x in (-half, half):
        ends = scene.view.along_road(x, [0.0, prop.height_m], z)
        canvas.line(ends, grey, 0.35 * scale)
    canvas.line(scene.view.along_road([-half, half], prop.height_m, z), grey, 0.5 * scale)
    for x in (-3.5, 3.5):
        low, high = prop.height_m - 0.8, prop.height_m + 1.6
        corners = scene.view.along_road([x - 2, x + 2, x + 2, x - 2], [low, low, high, high], z)
        canvas.fill(corners, _hazed(scene, prop.colour, z))
        for y in (low + 0.7, low + 1.4):
            words = scene.view.along_road([x - 1.4, x + 1.1], y, z)
            canvas.line(words, _hazed(scene, (220, 220, 220), z), 0.22 * scale)
    return []
