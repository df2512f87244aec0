"""Renders a scene: ground first, then everything upright from far to near, then the photograph."""

from itertools import pairwise

import numpy as np

from trt_lane.datasets._canvas import Canvas
from trt_lane.datasets._ground import draw_ground
from trt_lane.datasets._photo import take_photo
from trt_lane.datasets._road_scene import Scene
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
    todo = [(p.distance_m, lambda g, p=p: g + draw_prop(canvas, scene, p)) for p in scene.props]
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
