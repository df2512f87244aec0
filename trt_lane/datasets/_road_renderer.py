"""Renders a scene: ground first, then everything upright from far to near, then the photograph."""

from itertools import pairwise

import numpy as np

from trt_lane.datasets._canvas import Canvas
from trt_lane.datasets._ground import draw_ground
from trt_lane.datasets._photo import take_photo
from trt_lane.datasets._road_geometry import FULL_WIDTH_PX
from trt_lane.datasets._road_scene import Prop, Scene
from trt_lane.datasets._roadside import draw_barrier, draw_prop, draw_sky
from trt_lane.datasets._vehicles import Glow, draw_vehicle

# A barrier is drawn in stretches so that traffic and trees fall between them.
_STRETCHES_M = (1.5, 3, 6, 11, 18, 28, 45, 80, 160)


def render_scene(scene: Scene, frame_hw: tuple[int, int]) -> np.ndarray:
    """The frame, (H, W, 3) uint8 BGR."""
    canvas = Canvas(frame_hw)
    draw_sky(canvas, scene)
    draw_ground(canvas, scene)
    return take_photo(canvas, scene, _draw_upright(canvas, scene))


def _draw_upright(canvas: Canvas, scene: Scene) -> list[Glow]:
    """Draw what stands on the ground; returns what shines."""
    todo = [
        (p.distance_m, lambda g, p=p: g + draw_prop(canvas, scene, p)) for p in _in_sight(scene)
    ]
    for vehicle in scene.vehicles:
        middle = vehicle.distance_m + min(vehicle.length_m / 2, 2.5)
        todo.append((middle, lambda g, v=vehicle: draw_vehicle(canvas, scene, v, g)))
    for barrier in scene.barriers:
        for near, far in pairwise(_STRETCHES_M):
            todo.append(
                (near, lambda g, b=barrier, n=near, f=far: g + draw_barrier(canvas, scene, b, n, f))
            )
    glows: list[Glow] = []
    for _, draw in sorted(todo, key=lambda item: -item[0]):
        glows = draw(glows)
    return glows


def _in_sight(scene: Scene) -> list[Prop]:
    """The props of which some part may lie in the frame."""
    if not scene.props:
        return []
    offset, z, width = np.array([(p.offset_m, p.distance_m, p.width_m) for p in scene.props]).T
    reach_m = 1.6 * width + 3  # a building's far corner, a lamp's arm
    left = scene.view.along_road(offset - reach_m, 0.0, z)[:, 0]
    right = scene.view.along_road(offset + reach_m, 0.0, z)[:, 0]
    seen = (right > 0) & (left < FULL_WIDTH_PX)
    return [prop for prop, visible in zip(scene.props, seen, strict=True) if visible]
