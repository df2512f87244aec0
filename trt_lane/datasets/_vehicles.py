"""Draws cars, vans, trucks and buses as shaded boxes with windows, wheels and lamps."""

import math
from dataclasses import dataclass
from itertools import chain

import numpy as np

from trt_lane.datasets._canvas import Canvas
from trt_lane.datasets._ground import haze_at
from trt_lane.datasets._road_geometry import FULL_WIDTH_PX
from trt_lane.datasets._road_scene import Colour, Scene, Vehicle, VehicleKind

_GLASS = np.float64([62, 54, 48])
_NEAREST_M = 0.8
_CIRCLE = [(math.cos(k * math.pi / 6), math.sin(k * math.pi / 6)) for k in range(12)]


@dataclass(frozen=True)
class Glow:
    """Something that shines, in pixels of the full frame."""

    col_px: float
    row_px: float
    radius_px: float
    colour: Colour
    strength: float


def draw_vehicle(canvas: Canvas, scene: Scene, vehicle: Vehicle, glows: list[Glow]) -> list[Glow]:
    """Draw one vehicle; returns the glows that it does not hide, and its own."""
    if vehicle.crossing:
        return _draw_crossing(canvas, scene, vehicle, glows)
    brush = _Brush(canvas, scene, vehicle)
    if not brush.in_frame():
        return glows
    brush.shadow()
    if vehicle.kind in (VehicleKind.CAR, VehicleKind.VAN):
        _draw_car(brush)
    else:
        _draw_box(brush)
    lamps = _lamps(brush)
    return _unhidden(glows, brush.flush()) + lamps


def _unhidden(glows: list[Glow], outline_px: np.ndarray) -> list[Glow]:
    (left, top), (right, bottom) = outline_px.min(0), outline_px.max(0)
    return [g for g in glows if not (left < g.col_px < right and top < g.row_px < bottom)]


class _Brush:
    """Paints in the vehicle's axes: x -1..1 across, y metres up, z metres from its near face."""

    def __init__(self, canvas: Canvas, scene: Scene, vehicle: Vehicle):
        self.canvas, self.scene, self.vehicle = canvas, scene, vehicle
        self.haze = float(haze_at(scene, max(vehicle.distance_m, 1.0)))
        self.slope = float(scene.view.road.slope(max(vehicle.distance_m, 1.0)))
        self.base_x = vehicle.offset_m + float(
            scene.view.road.lateral_m(max(vehicle.distance_m, 1.0))
        )
        sun = scene.light.sun_side
        facing = self.base_x + self.slope * vehicle.length_m / 2
        self.side = -1 if facing > 0 else 1  # the flank that the camera sees
        self.side_light = 0.78 + 0.25 * sun * self.side
        self.rear_light = 0.92

        self.outlines, self.colours = [], []

    def in_frame(self) -> bool:
        ends = self.points([(x, 0, z) for x in (-1.2, 1.2) for z in (0, self.vehicle.length_m)])
        return bool(ends[:, 0].max() > 0 and ends[:, 0].min() < FULL_WIDTH_PX)

    def points(self, corners) -> np.ndarray:
        x, y, z = np.array(corners, np.float64).T
        x = self.base_x + x * (self.vehicle.width_m / 2) + self.slope * z
        return self.scene.view.project(x, y, np.maximum(self.vehicle.distance_m + z, _NEAREST_M))

    def fill(self, corners, colour, light: float = 1.0) -> None:
        """Note a polygon; flush() projects all of them at once and draws them in order."""
        self.outlines.append(corners)
        self.colours.append(
            [
                (1 - self.haze) * min(max(c * light, 0.0), 255.0) + self.haze * h
                for c, h in zip(colour, self.scene.sky.horizon, strict=True)
            ]
        )

    def flush(self) -> np.ndarray:
        """Draw what was noted; returns all corners in the full frame."""
        points = self.points(list(chain.from_iterable(self.outlines)))
        self.canvas.fill_all(points, [len(outline) for outline in self.outlines], self.colours)
        return points

    def shadow(self) -> None:
        end, light = self.vehicle.length_m, self.scene.light
        quad = [(-1.05, 0, -0.15), (1.05, 0, -0.15), (1.05, 0, end), (-1.05, 0, end)]
        self.canvas.blend([self.points(quad)], (22, 20, 20), 0.7)
        if light.shadow_strength:  # the sun's shadow falls to the other side of the road
            away = -1 if light.sun_side > 0 else 1
            tip = away * (1 + 1.6 * abs(light.sun_side) * self.vehicle.height_m / 1.8)
            quad = [(away, 0, 0), (tip, 0, 0.4), (tip, 0, end), (away, 0, end)]
            self.canvas.blend([self.points(quad)], (25, 20, 18), light.shadow_strength)


def _draw_car(brush: _Brush) -> None:
    vehicle, side = brush.vehicle, brush.side
    end, roof, paint = vehicle.length_m, vehicle.height_m, np.float64(vehicle.paint)
    belt, sill = 0.62 * roof, 0.19
    van = vehicle.kind is VehicleKind.VAN
    # where the glasshouse starts and ends, seen from the near face
    near0, near1 = (0.05, 0.35) if van else ((0.5, 1.1) if not vehicle.oncoming else (1.2, 2.0))
    far1, far0 = (end - 1.5, end - 0.9) if not vehicle.oncoming else (end - 0.9, end - 0.4)
    tuck = 0.78
    flank = [(side, sill, 0.05), (side, belt, 0.0), (side, belt, end), (side, sill, end)]
    brush.fill(flank, paint, brush.side_light)
    for z in (0.85, end - 0.85):
        _wheel(brush, side, z)
    glass = [(side * 0.98, belt, near0), (side * tuck, roof, near1)]
    glass += [(side * tuck, roof, far1), (side * 0.98, belt, far0)]
    brush.fill(glass, _GLASS, 0.9 * brush.side_light)
    pillar = (near1 + far1) / 2
    brush.fill(
        [(side * 0.98, belt, pillar - 0.06), (side * tuck, roof, pillar - 0.06),
         (side * tuck, roof, pillar + 0.06), (side * 0.98, belt, pillar + 0.06)],
        paint, 0.8 * brush.side_light,
    )  # fmt: skip
    brush.fill(
        [(-tuck, roof, near1), (tuck, roof, near1), (tuck, roof, far1), (-tuck, roof, far1)],
        paint, 1.1,
    )  # fmt: skip
    if vehicle.distance_m < _NEAREST_M:  # its near face is beside or behind the camera
        return
    deck = [(-0.97, belt, 0.02), (0.97, belt, 0.02), (0.97, belt, near0), (-0.97, belt, near0)]
    brush.fill(deck, paint, 1.15)
    frame = [(-0.97, belt, near0), (0.97, belt, near0), (tuck, roof, near1), (-tuck, roof, near1)]
    brush.fill(frame, paint, brush.rear_light)
    inset = [(-0.84, belt + 0.04, near0), (0.84, belt + 0.04, near0)]
    inset += [(tuck - 0.08, roof - 0.07, near1), (0.08 - tuck, roof - 0.07, near1)]
    sky = np.float64(brush.scene.sky.horizon)
    brush.fill(inset, 0.72 * _GLASS + 0.28 * sky * (0.3 if brush.scene.light.night else 1))
    face = [(-1, sill + 0.12, 0), (1, sill + 0.12, 0), (0.98, belt, 0), (-0.98, belt, 0)]
    brush.fill(face, paint, brush.rear_light)
    brush.fill([(-0.95, sill, 0), (0.95, sill, 0), (1, 0.42, 0), (-1, 0.42, 0)], paint, 0.62)
    for x in (-0.78, 0.78):
        tyre = [(x - 0.13, 0, 0.1), (x + 0.13, 0, 0.1), (x + 0.13, sill, 0), (x - 0.13, sill, 0)]
        brush.fill(tyre, (18, 18, 18))
    _plate(brush, 0.5 * (belt + sill) + 0.08)


def _draw_box(brush: _Brush) -> None:
    """Trucks and buses: one tall box on wheels."""
    vehicle, side = brush.vehicle, brush.side
    end, roof, paint = vehicle.length_m, vehicle.height_m, np.float64(vehicle.paint)
    sill = 0.45 if vehicle.kind is VehicleKind.BUS else 0.95
    flank = [(side, sill, 0), (side, roof, 0), (side, roof, end), (side, sill, end)]
    for z in (1.2, 2.4, end - 1.3) if vehicle.kind is VehicleKind.TRUCK else (2.2, end - 2.2):
        _wheel(brush, side, z)
    brush.fill(flank, paint, brush.side_light)
    if vehicle.kind is VehicleKind.BUS:
        band = [(side, 0.45 * roof, 0.3), (side, 0.85 * roof, 0.3)]
        band += [(side, 0.85 * roof, end - 0.3), (side, 0.45 * roof, end - 0.3)]
        brush.fill(band, _GLASS, brush.side_light)
    if vehicle.distance_m < _NEAREST_M:
        return
    face = [(-1, sill, 0), (1, sill, 0), (1, roof, 0), (-1, roof, 0)]
    brush.fill(face, paint, brush.rear_light)
    if vehicle.kind is VehicleKind.BUS or vehicle.oncoming:
        window = [(-0.88, 0.5 * roof, 0), (0.88, 0.5 * roof, 0)]
        window += [(0.86, 0.88 * roof, 0), (-0.86, 0.88 * roof, 0)]
        brush.fill(window, _GLASS, 1.1)
    else:
        brush.fill([(-0.015, sill, 0), (0.015, sill, 0), (0.015, roof, 0), (-0.015, roof, 0)],
                   paint, 0.5)  # fmt: skip
        for y in (sill + 0.1, roof - 0.12):
            brush.fill([(-0.96, y, 0), (0.96, y, 0), (0.96, y + 0.04, 0), (-0.96, y + 0.04, 0)],
                       paint, 0.65)  # fmt: skip
    brush.fill([(-0.95, sill - 0.35, 0), (0.95, sill - 0.35, 0), (1, sill, 0), (-1, sill, 0)],
               (42, 42, 44))  # fmt: skip
    for x in (-0.74, 0.74):
        brush.fill([(x - 0.2, 0, 0.3), (x + 0.2, 0, 0.3), (x + 0.2, 0.5, 0.3), (x - 0.2, 0.5, 0.3)],
                   (20, 20, 20))  # fmt: skip
    _plate(brush, sill - 0.12)


def _wheel(brush: _Brush, side: int, z: float) -> None:
    if brush.vehicle.distance_m + z < 2 * _NEAREST_M:
        return
    for radius, tone in ((0.33, 20), (0.19, 105)):
        ring = [(side * 1.005, 0.33 + radius * y, z + radius * x) for x, y in _CIRCLE]
        brush.fill(ring, (tone, tone, tone))


def _plate(brush: _Brush, y: float) -> None:
    plate = (165, 95, 30) if brush.vehicle.width_m > 1.78 else (200, 205, 205)
    brush.fill([(-0.24, y, 0), (0.24, y, 0), (0.24, y + 0.13, 0), (-0.24, y + 0.13, 0)], plate)


def _lamps(brush: _Brush) -> list[Glow]:
    vehicle, night = brush.vehicle, brush.scene.light.night
    if vehicle.distance_m < _NEAREST_M:
        return []
    y = 0.47 * vehicle.height_m if vehicle.height_m < 2.3 else 0.95
    red = (60, 50, 235) if vehicle.braking or night else (45, 40, 150)
    colour = (235, 240, 245) if vehicle.oncoming else red
    for x in (-0.86, 0.86):
        low, high = (x - 0.13, y, 0), (x + 0.13, y + 0.15, 0)
        brush.fill([low, (high[0], y, 0), high, (low[0], high[1], 0)], colour)
    lit = night or vehicle.braking or (vehicle.oncoming and brush.scene.light.rain > 0)
    if not lit:
        return []
    centres = brush.points([(-0.86, y + 0.07, 0), (0.86, y + 0.07, 0)])
    scale = brush.scene.view.camera.focal_px / vehicle.distance_m
    strength = (1.0 if vehicle.oncoming else 0.75) if night else 0.3
    radius = float((0.16 if vehicle.oncoming else 0.11) * scale + 0.8)
    return [Glow(float(c), float(r), radius, colour, strength) for c, r in centres]


def _draw_crossing(canvas: Canvas, scene: Scene, vehicle: Vehicle, glows: list[Glow]) -> list[Glow]:
    """A car that crosses the intersection: its side view."""
    z, half, roof = vehicle.distance_m, vehicle.length_m / 2, vehicle.height_m
    haze = float(haze_at(scene, z))

    def fill(outline, colour):
        shade = np.float64(colour) + haze * (np.float64(scene.sky.horizon) - np.float64(colour))
        x, y = np.array(outline).T
        canvas.fill(scene.view.project(vehicle.offset_m + x, y, z), shade.tolist())

    paint, belt = np.float64(vehicle.paint) * 0.9, 0.6 * roof
    x = vehicle.offset_m + np.array([-half, half, half, -half])
    shadow = scene.view.project(x, 0.0, z + np.array([-0.2, -0.2, 1.9, 1.9]))
    canvas.blend([shadow], (22, 20, 20), 0.6)
    fill([(-half, 0.22), (half, 0.22), (half, belt * 0.95), (-half, belt)], paint)
    if vehicle.kind is VehicleKind.CAR:
        house = [(-half * 0.85, belt), (half * 0.55, belt), (half * 0.2, roof), (-half * 0.6, roof)]
    else:
        house = [(-half, belt), (half, belt), (half * 0.92, roof), (-half, roof)]
    fill(house, paint)
    fill([(x * 0.9, y - 0.05 if y > belt else y + 0.02) for x, y in house], _GLASS)
    for x in (-half * 0.62, half * 0.62):
        for radius, tone in ((0.33, 20.0), (0.18, 110.0)):
            ring = [(x + radius * c, 0.33 + radius * s) for c, s in _CIRCLE]
            fill(ring, (tone, tone, tone))
    body = scene.view.project(vehicle.offset_m + np.array([-half, half]), np.array([0, roof]), z)
    return _unhidden(glows, body)
