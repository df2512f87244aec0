"""Draws what fills a road scene: traffic, roadside, barriers, shadows and sky."""

import numpy as np

from trt_lane.datasets._road_scene import (
    Barrier,
    BarrierKind,
    CastShadow,
    Category,
    Light,
    Prop,
    PropKind,
    Sky,
    Surface,
    Vehicle,
    VehicleKind,
)

_PAINTS = (
    (225, 228, 228), (205, 205, 205), (150, 152, 152), (95, 95, 95), (35, 35, 36), (25, 24, 24),
    (40, 36, 150), (120, 70, 35), (60, 45, 30), (70, 150, 190), (60, 85, 45), (25, 110, 200),
)  # fmt: skip
_MASONRY = np.array([0.94, 1.0, 1.05])
_SIZES = {  # width, height, length
    VehicleKind.CAR: (1.8, 1.47, 4.5),
    VehicleKind.VAN: (1.95, 1.95, 5.0),
    VehicleKind.TRUCK: (2.45, 3.4, 9.5),
    VehicleKind.BUS: (2.5, 3.1, 11.0),
}


def sample_vehicles(
    rng: np.random.Generator, category: Category, lines: np.ndarray, ego: int, split: int
) -> tuple[Vehicle, ...]:
    """Traffic in every lane, oncoming left of the line that parts the directions."""
    crowded = category is Category.CROWDED
    share = rng.uniform(0.65, 1.0) if crowded else rng.uniform(0.0, 0.55)
    if category in (Category.NO_LINE, Category.CROSSROAD):
        share = rng.uniform(0.1, 0.6)
    vehicles = []
    for k in range(len(lines) - 1):
        low, high = (5.5, 15) if crowded else (11, 45)
        z = rng.uniform(low, high) if k == ego else rng.uniform(-1.0, high)
        if crowded and k == ego:
            z = max(z, 6.5)
        while z < 110:
            if rng.random() < share:
                vehicles.append(_vehicle(rng, (lines[k] + lines[k + 1]) / 2, z, k < split))
                z += vehicles[-1].length_m
            z += rng.uniform(3, 14) if crowded else rng.uniform(12, 45)
    if category is Category.CROSSROAD:
        for _ in range(int(rng.integers(0, 4))):
            vehicles.append(
                _vehicle(rng, rng.uniform(-22, 22), rng.uniform(14, 38), False, crossing=True)
            )
    return tuple(vehicles)


def _vehicle(
    rng: np.random.Generator, lane_m: float, distance_m: float, oncoming: bool, crossing=False
) -> Vehicle:
    kind = list(VehicleKind)[int(rng.choice(4, p=[0.72, 0.12, 0.1, 0.06]))]
    width, height, length = np.array(_SIZES[kind]) * rng.normal(1, 0.05, 3)
    paint = np.array(_PAINTS[int(rng.integers(len(_PAINTS)))]) * rng.uniform(0.85, 1.1)
    if height > 2.4:  # large vehicles are seldom black
        paint = 0.5 * paint + 75
    return Vehicle(
        kind=kind,
        offset_m=float(lane_m + rng.normal(0, 0.2)),
        distance_m=float(distance_m),
        width_m=float(width),
        height_m=float(height),
        length_m=float(length),
        paint=tuple(float(c) for c in np.clip(paint, 0, 250)),
        oncoming=bool(oncoming),
        braking=bool(rng.random() < 0.35),
        crossing=crossing,
    )


def sample_props(
    rng: np.random.Generator, category: Category, surface: Surface, night: bool
) -> tuple[Prop, ...]:
    """Trees, poles, signs and buildings on both sides."""
    urban = category is Category.CROSSROAD or rng.random() < 0.5
    props = []
    for side, edge in (
        (-1, surface.left_edge_m - surface.left_shoulder_m),
        (1, surface.right_edge_m + surface.right_shoulder_m),
    ):
        if urban and rng.random() < 0.75:
            z = rng.uniform(8, 30)
            while z < 160:
                width = rng.uniform(8, 26)
                if rng.random() < 0.75:
                    x = edge + side * (width / 2 + rng.uniform(4, 14))
                    tone = rng.uniform(70, 190) * rng.uniform(0.92, 1.05, 3) * _MASONRY
                    height = rng.uniform(4, 24)
                    props.append(_prop(rng, PropKind.BUILDING, x, z, width, height, tone))
                z += width + rng.uniform(2, 25)
        greenery = rng.uniform(0.15, 1.0)
        z = rng.uniform(6, 20)
        while z < 150:
            if rng.random() < greenery:
                kind = PropKind.TREE if rng.random() < 0.65 else PropKind.BUSH
                height = rng.uniform(4, 11) if kind is PropKind.TREE else rng.uniform(0.8, 2.4)
                x = edge + side * rng.uniform(1.8, 16)
                tone = np.array([0.55, 1.0, 0.75]) * rng.uniform(38, 92) * rng.normal(1, 0.12, 3)
                width = height * rng.uniform(0.6, 1.0 if kind is PropKind.TREE else 2.2)
                props.append(_prop(rng, kind, x, z, width, height, tone))
            z += rng.uniform(4, 22)
        if rng.random() < 0.6:
            z, step = rng.uniform(6, 30), rng.uniform(22, 45)
            kind = PropKind.LAMP if urban or night else PropKind.POLE
            grey, height = rng.uniform(60, 150), rng.uniform(7, 11)
            while z < 190:
                x = edge + side * 0.9
                props.append(_prop(rng, kind, x, z, 0.16, height, np.full(3, grey)))
                z += step
        for _ in range(int(rng.choice(3, p=[0.55, 0.3, 0.15]))):
            x, z = edge + side * rng.uniform(0.8, 3), rng.uniform(12, 80)
            tone = ((170, 80, 20), (60, 120, 30), (30, 190, 225), (225, 225, 225))[
                int(rng.integers(4))
            ]
            width = rng.uniform(0.7, 2.6)
            props.append(_prop(rng, PropKind.SIGN, x, z, width, rng.uniform(2.4, 4), tone))
    if rng.random() < 0.12:
        z, tone = rng.uniform(25, 110), (150, 90, 20) if rng.random() < 0.5 else (70, 110, 20)
        props.append(_prop(rng, PropKind.GANTRY, 0.0, z, 22.0, 6.3, tone))
    return tuple(props)


def _prop(rng, kind: PropKind, x: float, z: float, width: float, height: float, tone) -> Prop:
    return Prop(
        kind=kind,
        offset_m=float(x),
        distance_m=float(z),
        width_m=float(width),
        height_m=float(height),
        colour=tuple(float(c) for c in np.clip(tone, 5, 245)),
        seed=int(rng.integers(2**31)),
    )


def sample_barriers(
    rng: np.random.Generator,
    category: Category,
    surface: Surface,
    lines: np.ndarray,
    split: int,
) -> tuple[Barrier, ...]:
    """Rails and walls at the road's edges, fences between the directions."""
    if category is Category.CROSSROAD:
        return ()
    barriers = []
    for edge, shoulder, side in (
        (surface.left_edge_m, surface.left_shoulder_m, -1),
        (surface.right_edge_m, surface.right_shoulder_m, 1),
    ):
        if rng.random() < 0.4:
            kind = list(BarrierKind)[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
            height = {BarrierKind.RAIL: 0.8, BarrierKind.WALL: 0.95, BarrierKind.FENCE: 1.1}[kind]
            grey = float(rng.uniform(110, 200))
            offset = float(edge + side * (shoulder + rng.uniform(0, 0.6)))
            barriers.append(
                Barrier(kind, offset, float(height * rng.uniform(0.85, 1.2)), (grey,) * 3)
            )
    if split and rng.random() < 0.15 and np.searchsorted(lines, 0.0) - 1 > split:
        grey = float(rng.uniform(150, 230))
        barriers.append(Barrier(BarrierKind.FENCE, float(lines[split]) - 0.4, 0.9, (grey,) * 3))
    return tuple(barriers)


def sample_shadows(
    rng: np.random.Generator, category: Category, light: Light, surface: Surface
) -> tuple[CastShadow, ...]:
    """Shadows of trees, poles, buildings and bridges across the road."""
    if not light.shadow_strength:
        return ()
    strong = category is Category.SHADOW
    side = 1 if light.sun_side > 0 else -1
    edge = (
        surface.right_edge_m + surface.right_shoulder_m
        if side > 0
        else surface.left_edge_m - surface.left_shoulder_m
    )
    slant = float(rng.uniform(-0.6, 0.6))
    shadows = []
    count = int(rng.integers(5, 11)) if strong else int(rng.choice(4, p=[0.45, 0.25, 0.2, 0.1]))
    for _ in range(count):
        z = float(rng.uniform(3, 55))
        reach = float(rng.uniform(2.5, 16 if strong else 9))
        kind = rng.random()
        if kind < 0.55:  # a tree's crown
            depth, dapple = float(rng.uniform(2.5, 9)), float(rng.uniform(0.5, 1))
        elif kind < 0.8:  # a pole or a trunk
            depth, dapple = float(rng.uniform(0.12, 0.4)), 0.0
        else:  # a building or a bridge
            depth, dapple = float(rng.uniform(3, 12)), 0.0
            reach = reach if rng.random() < 0.5 else 60.0
        tip = edge - side * reach
        start = edge + side * 6.0
        shift = slant * (reach + 6)
        corners = ((start, z), (start, z + depth), (tip, z + depth + shift), (tip, z + shift))
        shadows.append(CastShadow(corners, dapple))
    return tuple(shadows)


def sample_sky(rng: np.random.Generator, light: Light) -> Sky:
    """Clear, cloudy, hazy or black, with ridges below."""
    night, overcast = light.night, rng.random() < 0.85 and not light.shadow_strength
    if night:
        tone = rng.uniform(4, 38)
        zenith = tone * np.array([1.1, 0.95, rng.uniform(0.8, 1.2)])
        horizon = zenith * rng.uniform(1.1, 2.2)
        cloud = rng.uniform(0, 0.2)
    elif light.wet or overcast:
        tone = rng.uniform(150, 235)
        zenith = tone * np.array([1.02, 1.0, 0.98])
        horizon = np.minimum(zenith * rng.uniform(0.95, 1.12), 250)
        cloud = rng.uniform(0.05, 0.35)
    else:
        blue = rng.uniform(0.75, 1.1)
        zenith = np.array([185, 138, 92]) * blue
        horizon = np.array([225, 195, 165]) * rng.uniform(0.85, 1.1)
        cloud = rng.uniform(0.0, 0.9)
    hill = np.array([62, 78, 68]) * rng.uniform(0.6, 1.3) * (0.12 if night else 1)
    return Sky(
        zenith=tuple(float(c) for c in np.clip(zenith, 0, 255)),
        horizon=tuple(float(c) for c in np.clip(horizon, 0, 255)),
        cloud=float(cloud),
        hills_px=tuple(float(h) for h in rng.uniform(2, 42, int(rng.integers(1, 4)))),
        hill=tuple(float(c) for c in np.clip(hill, 0, 255)),
    )
