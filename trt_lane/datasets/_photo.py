"""Turns a drawn scene into a photograph: night light, glow, glare, weather, lens and sensor."""

from functools import lru_cache

import cv2
import numpy as np

from trt_lane.datasets._canvas import Canvas, noise_tile
from trt_lane.datasets._road_geometry import FULL_HEIGHT_PX, FULL_WIDTH_PX
from trt_lane.datasets._road_scene import Optics, Scene
from trt_lane.datasets._vehicles import Glow

_LAMP_COLOUR = np.float32([0.62, 0.85, 1.05])
_SMALL_HW = (74, 206)  # light changes slowly: it is computed on an eighth of the full frame


def take_photo(canvas: Canvas, scene: Scene, glows: list[Glow]) -> np.ndarray:
    """The finished frame, (H, W, 3) uint8."""
    optics = scene.optics
    if optics.bonnet_px:
        _draw_bonnet(canvas, optics)
    height, width = canvas.pixels.shape[:2]
    light = _light_field(scene) * _vignette(optics.vignetting)
    added = _glow_field(scene, glows)
    frame = canvas.pixels.astype(np.float32)
    frame *= cv2.resize(light, (width, height))
    if added.any():
        frame += cv2.resize(added, (width, height))
        _sharp_lamps(frame, canvas, glows)
    if scene.light.rain:
        _rain(frame, canvas, scene)
    frame = np.minimum(frame, 255, out=frame).astype(np.uint8)
    frame = _lens(frame, optics, canvas.scale[0])
    return _sensor(frame, scene, canvas.scale[0])


def _small_grid() -> tuple[np.ndarray, np.ndarray]:
    """Full-frame columns (1, W) and rows (H, 1) of the small fields."""
    height, width = _SMALL_HW
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * FULL_HEIGHT_PX / height - 0.5
    cols = (np.arange(width, dtype=np.float32)[None] + 0.5) * FULL_WIDTH_PX / width - 0.5
    return cols, rows


def _light_field(scene: Scene) -> np.ndarray:
    """(h, w, 3) factor on every colour."""
    light = scene.light
    if not light.night:
        return np.ones((*_SMALL_HW, 3), np.float32)
    cols, rows = _small_grid()
    view = scene.view
    z = view.distance_m(rows)
    ground = np.isfinite(z)
    z = np.float32(np.where(ground, z, 45))
    x = (cols - view.camera.centre_col_px) * z / view.camera.focal_px
    beam = np.exp(-((x / (1.6 + 0.2 * z)) ** 2)) * np.clip((z - 2) / 5, 0.25, 1)
    beam *= 0.95 / (1 + (z / 24) ** 2)
    above = np.exp(-np.maximum(view.ground_top_row_px() - rows, 0) / 60)
    field = light.headlight * beam * np.where(ground, 1, above)
    total = light.ambient * np.float32(light.ambient_tint) + field[..., None]
    for offset, distance in light.street_lamps_m:
        spot = np.exp(-((x - offset * 0.6) ** 2 + (z - distance) ** 2) / 75) * ground
        total = total + 0.7 * spot[..., None] * _LAMP_COLOUR
    return np.float32(total)


@lru_cache(maxsize=1)
def _radius_field() -> np.ndarray:
    cols, rows = _small_grid()
    x = (cols - FULL_WIDTH_PX / 2) / (FULL_WIDTH_PX / 2)
    y = (rows - FULL_HEIGHT_PX / 2) / (FULL_WIDTH_PX / 2)
    return (x**2 + y**2)[..., None]


def _vignette(strength: float) -> np.ndarray:
    return 1 - np.float32(strength) * _radius_field()


def _glow_field(scene: Scene, glows: list[Glow]) -> np.ndarray:
    """(h, w, 3): light that lamps, sun and a dirty windscreen add."""
    optics, light = scene.optics, scene.light
    field = np.zeros((*_SMALL_HW, 3), np.float32)
    cols, rows = _small_grid()
    ratio = _SMALL_HW[1] / FULL_WIDTH_PX
    for glow in glows:
        centre = (round(glow.col_px * ratio), round(glow.row_px * ratio))
        if not (-20 < centre[0] < _SMALL_HW[1] + 20 and -20 < centre[1] < _SMALL_HW[0] + 20):
            continue
        colour = [c * glow.strength for c in glow.colour]
        cv2.circle(field, centre, max(1, round(1.3 * glow.radius_px * ratio)), colour, -1)
        if light.wet:
            streak = (centre[0], centre[1] + round((18 + 9 * glow.radius_px) * ratio))
            faint = [c * light.wet * 0.35 for c in colour]
            cv2.line(field, centre, streak, faint, max(1, round(glow.radius_px * ratio)))
    if glows:
        near, far = (cv2.GaussianBlur(field, (0, 0), sigma) for sigma in (0.8, 4))
        field = 0.5 * near + 1.3 * far
    for col, row, radius, strength in optics.flares:
        distance = np.hypot(cols - col, (rows - row) * 1.1)
        core = 190 * np.exp(-((distance / (0.45 * radius)) ** 2))
        halo = 105 / (1 + (distance / radius) ** 2)
        spikes = 40 * np.exp(-np.abs(rows - row) / 12 - distance / (3 * radius))
        warm = np.float32([0.86, 0.97, 1.0])
        field += strength * (core + halo + spikes)[..., None].astype(np.float32) * warm
    if optics.veil:
        haze = 0.5 + 0.5 * cv2.resize(noise_tile(2)[:40, :110], _SMALL_HW[::-1])
        field += optics.veil * 150 * np.clip(0.75 + 0.25 * haze, 0, 2)[..., None]
    return field


def _sharp_lamps(frame: np.ndarray, canvas: Canvas, glows: list[Glow]) -> None:
    for glow in glows:
        if glow.strength < 0.5:
            continue
        centre = np.round(canvas.own_pixels((glow.col_px, glow.row_px))).astype(int).tolist()
        radius = glow.radius_px * canvas.scale[0]
        colour = [min(255.0, 0.35 * c + 165) for c in glow.colour]
        if radius >= 0.5:
            cv2.circle(frame, centre, max(1, round(0.6 * radius)), colour, -1)


def _rain(frame: np.ndarray, canvas: Canvas, scene: Scene) -> None:
    """Streaks in the air and drops on the windscreen."""
    rng = np.random.default_rng([scene.detail_seed, 9])
    height, width = frame.shape[:2]
    streaks = np.zeros((height, width), np.uint8)
    for x, y, length in rng.uniform(0, 1, (int(140 * scene.light.rain), 3)):
        start = canvas.own_pixels((x * FULL_WIDTH_PX, y * FULL_HEIGHT_PX))
        end = start + np.array([-4, 18 + 26 * length]) * canvas.scale
        cv2.line(streaks, start.astype(int).tolist(), end.astype(int).tolist(), 255, 1, cv2.LINE_AA)
    frame += streaks[..., None] * np.float32(0.07 + 0.08 * min(1, canvas.scale[0]))
    drops = np.zeros((height, width), np.uint8)
    for x, y, size in rng.uniform(0, 1, (int(60 * scene.light.rain), 3)):
        centre = canvas.own_pixels((x * FULL_WIDTH_PX, y * FULL_HEIGHT_PX)).astype(int).tolist()
        cv2.circle(drops, centre, max(1, round((3 + 9 * size) * canvas.scale[0])), 255, -1)
    soft = cv2.GaussianBlur(frame, (0, 0), max(1.0, 9 * canvas.scale[0]))
    mask = cv2.GaussianBlur(drops, (0, 0), max(0.5, 2 * canvas.scale[0]))[..., None]
    frame += (soft * 1.05 - frame) * (mask / np.float32(255 / 0.8))


def _draw_bonnet(canvas: Canvas, optics: Optics) -> None:
    cols = np.linspace(0, FULL_WIDTH_PX, 40)
    arc = ((cols - FULL_WIDTH_PX / 2) / (FULL_WIDTH_PX / 2)) ** 2
    top = FULL_HEIGHT_PX - optics.bonnet_px * (1 - 0.9 * arc)
    outline = np.concatenate([np.stack([cols, top], 1), [(FULL_WIDTH_PX, 700), (0, 700)]])
    canvas.fill(outline, optics.bonnet)
    shine = [min(255.0, 1.5 * c + 14) for c in optics.bonnet]
    canvas.line(np.stack([cols, top + 3], 1), shine, 3)


def _lens(frame: np.ndarray, optics: Optics, scale: float) -> np.ndarray:
    sigma = optics.blur_px * scale
    if sigma > 0.33:
        frame = cv2.GaussianBlur(frame, (0, 0), sigma)
    length = round(optics.motion_px * scale)
    if length >= 2:
        kernel = np.zeros((length | 1, length | 1), np.float32)
        kernel[:, (length | 1) // 2] = 1 / (length | 1)
        frame = cv2.filter2D(frame, -1, kernel)
    if frame.shape[0] >= FULL_HEIGHT_PX // 2:  # JPEG's halved colour; invisible in small frames
        y, *chroma = cv2.split(cv2.cvtColor(frame, cv2.COLOR_BGR2YCrCb))
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        chroma = [cv2.resize(cv2.resize(c, half), frame.shape[1::-1]) for c in chroma]
        frame = cv2.cvtColor(cv2.merge([y, *chroma]), cv2.COLOR_YCrCb2BGR)
    return frame


def _sensor(frame: np.ndarray, scene: Scene, scale: float) -> np.ndarray:
    """Noise, then white balance, saturation and the tone curve."""
    optics = scene.optics
    grey = np.float32([[0.114, 0.587, 0.299]] * 3)
    colour = optics.saturation * np.eye(3, dtype=np.float32) + (1 - optics.saturation) * grey
    matrix = np.float32(optics.tint)[:, None] * colour * optics.gain
    frame = cv2.transform(frame, matrix)
    value = np.arange(256) / 255
    curve = np.clip(0.5 + (value - 0.5) * optics.contrast, 0, 1) ** optics.gamma
    frame = cv2.LUT(frame, np.uint8(np.round(255 * curve)))
    sigma = optics.noise * (0.55 + 0.45 * min(1.0, scale))  # smaller frames average pixels
    y, x = np.random.default_rng([scene.detail_seed, 11]).integers(0, 64, 2)
    height, width = frame.shape[:2]
    noise = _noise_field(height + 64, width + 64)[y : y + height, x : x + width]
    noisy = cv2.scaleAdd(noise, float(sigma), frame.astype(np.float32))
    return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


@lru_cache(maxsize=2)
def _noise_field(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng([height, width])
    return rng.standard_normal((height, width, 3), np.float32)
