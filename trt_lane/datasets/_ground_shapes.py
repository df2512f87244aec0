"""Outlines of what is painted or broken on a road: arrows, words, crossings, patches, cracks."""

import numpy as np

from trt_lane.datasets._road_geometry import View
from trt_lane.datasets._road_scene import Decal, GroundShape

# Outlines in a unit box: x in -.5 .. .5 to the right, y in 0 .. 1 away from the camera.
_AHEAD = [(-0.07, 0), (0.07, 0), (0.07, 0.58), (0.28, 0.58), (0, 1), (-0.28, 0.58), (-0.07, 0.58)]
_TURN = [
    (-0.07, 0), (0.07, 0), (0.07, 0.5), (0.2, 0.62), (0.2, 0.5), (0.5, 0.74), (0.2, 0.98),
    (0.2, 0.84), (-0.07, 0.62),
]  # fmt: skip
_DIAMOND = [(0, 0), (0.3, 0.5), (0, 1), (-0.3, 0.5)]


def decal_polygons(view: View, decal: Decal, seed: int) -> list[np.ndarray]:
    """The decal's outlines in pixels of the full frame, each (P, 2)."""
    outlines = [_densify(np.array(o)) for o in _outlines(decal, np.random.default_rng(seed))]
    x, z = np.concatenate(outlines).T
    x = decal.offset_m + decal.mirror * decal.width_m * x
    z = decal.distance_m + decal.length_m * z
    ends = np.cumsum([len(outline) for outline in outlines])[:-1]
    return np.split(view.along_road(x, 0.0, z), ends)


def _outlines(decal: Decal, rng: np.random.Generator) -> list:
    shape = decal.shape
    if shape is GroundShape.ARROW_AHEAD:
        return [_AHEAD]
    if shape is GroundShape.ARROW_TURN:
        both = rng.random() < 0.4
        return [_TURN, _AHEAD] if both else [_TURN]
    if shape is GroundShape.DIAMOND:
        inner = [(0.7 * x, 0.5 + 0.7 * (y - 0.5)) for x, y in _DIAMOND]
        return [_DIAMOND + _DIAMOND[:1] + inner + inner[:1]]
    if shape is GroundShape.TEXT:
        return _letters(rng)
    if shape is GroundShape.CROSSWALK:
        bars = max(4, int(decal.width_m / 0.95))
        left = (np.arange(bars) + 0.25) / bars - 0.5
        return [_box(x, x + 0.5 / bars, 0, 1) for x in left]
    if shape is GroundShape.STOP_LINE:
        return [_box(-0.5, 0.5, 0, 0.4 / decal.length_m)]
    if shape is GroundShape.CRACK:
        along = rng.random() < 0.6
        t = np.linspace(0, 1, 24)
        walk = np.cumsum(rng.normal(0, 0.05, 24))
        half = 0.018 / (decal.width_m if along else decal.length_m)
        line = np.stack([walk, t], 1) if along else np.stack([t - 0.5, 0.5 + 0.4 * walk], 1)
        side = np.array([half, 0]) if along else np.array([0, half])
        return [np.concatenate([line - side, (line + side)[::-1]])]
    return [_box(-0.5, 0.5, 0, 1)]


def _letters(rng: np.random.Generator) -> list:
    """Strokes that look like stretched letters."""
    strokes = []
    for cell in range(int(rng.integers(2, 4))):
        x0, x1 = -0.5 + cell * 0.36, -0.5 + cell * 0.36 + 0.27
        for x in (x0, (x0 + x1) / 2 - 0.03, x1 - 0.06):
            if rng.random() < 0.65:
                strokes.append(_box(x, x + 0.06, 0, 1))
        for y in (0.0, 0.45, 0.9):
            if rng.random() < 0.7:
                strokes.append(_box(x0, x1, y, y + 0.1))
    return strokes or [_box(-0.4, 0.4, 0, 0.1)]


def _box(x0, x1, y0, y1) -> list:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _densify(outline: np.ndarray) -> np.ndarray:
    """Points between the corners: straight on the ground is not straight along a curved road."""
    if len(outline) > 12:
        return outline
    steps = np.arange(4)[:, None] / 4
    following = outline[np.arange(1, len(outline) + 1) % len(outline)]
    return (outline[:, None] + (following - outline)[:, None] * steps).reshape(-1, 2)
