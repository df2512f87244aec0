"""Draws random road scenes: how roads are built, driven on, lit and filmed, by category."""

import numpy as np

from trt_lane.datasets._paint_sampler import (
    sample_crossing,
    sample_damage,
    sample_lane_decals,
    sample_markings,
    sample_seams,
)
from trt_lane.datasets._road_geometry import FULL_WIDTH_PX, Camera, Road, View
from trt_lane.datasets._road_scene import (
    Boundary,
    Category,
    Colour,
    Light,
    Optics,
    Scene,
    Surface,
)
from trt_lane.datasets._roadside_sampler import (
    sample_barriers,
    sample_props,
    sample_shadows,
    sample_sky,
    sample_vehicles,
)

# CULane's test proportions, the rare categories raised so that a few hundred frames hold some.
PROPORTIONS = {
    Category.NORMAL: 0.265,
    Category.CROWDED: 0.215,
    Category.NIGHT: 0.185,
    Category.NO_LINE: 0.11,
    Category.CROSSROAD: 0.08,
    Category.SHADOW: 0.04,
    Category.ARROW: 0.035,
    Category.CURVE: 0.04,
    Category.DAZZLE_LIGHT: 0.03,
}

# grass, dry grass, sand, gravel, pavement
_TERRAINS = (
    (38, 74, 62), (48, 88, 82), (70, 112, 128), (110, 150, 172), (105, 118, 124), (55, 68, 70),
)  # fmt: skip


def sample_scene(rng: np.random.Generator, category: Category | None = None) -> Scene:
    """A scene of the category, or of one drawn by PROPORTIONS."""
    drawn = sample_category(rng)
    category = category or drawn
    night = category is Category.NIGHT or (
        category in (Category.NO_LINE, Category.CROSSROAD, Category.DAZZLE_LIGHT)
        and rng.random() < 0.2
    )
    view = View(_sample_camera(rng), _sample_road(rng, category))
    lines = _lane_lines(rng, category)
    surface = _sample_surface(rng, category, lines)
    ego = int(np.searchsorted(lines, 0.0)) - 1
    two_way = ego >= 1 and rng.random() < 0.45
    split = int(rng.integers(1, ego + 1)) if two_way else 0  # the line that parts the directions
    if category is Category.CROSSROAD:
        boundaries, stripes, decals = (), (), sample_crossing(rng)
    else:
        boundaries = tuple(
            Boundary(float(lines[k]), slot)
            for slot, k in enumerate(range(ego - 1, ego + 3))
            if 0 <= k < len(lines)
        )
        stripes = sample_markings(rng, category, lines, split)
        decals = sample_lane_decals(rng, category, lines, ego, split)
    light = _sample_light(rng, category, night)
    return Scene(
        category=category,
        view=view,
        boundaries=boundaries,
        surface=surface,
        stripes=sample_seams(rng, category, surface) + stripes,
        decals=sample_damage(rng, surface) + decals,
        vehicles=sample_vehicles(rng, category, lines, ego, split),
        props=sample_props(rng, category, surface, night),
        barriers=sample_barriers(rng, category, surface, lines, split),
        shadows=sample_shadows(rng, category, light, surface),
        sky=sample_sky(rng, light),
        light=light,
        optics=_sample_optics(rng, category, night),
        detail_seed=int(rng.integers(2**31)),
    )


def sample_category(rng: np.random.Generator) -> Category:
    """One category by PROPORTIONS; takes one draw."""
    bounds = np.cumsum(list(PROPORTIONS.values()))
    return list(PROPORTIONS)[int(np.searchsorted(bounds / bounds[-1], rng.random(), "right"))]


def _sample_camera(rng: np.random.Generator) -> Camera:
    return Camera(
        focal_px=float(rng.uniform(820, 1350)),
        height_m=float(rng.uniform(1.2, 1.8)),
        horizon_row_px=float(np.clip(rng.normal(262, 22), 205, 320)),
        centre_col_px=float((FULL_WIDTH_PX - 1) / 2 + rng.uniform(-45, 45)),
    )


def _sample_road(rng: np.random.Generator, category: Category) -> Road:
    if category is Category.CURVE:
        curvature = rng.choice([-1, 1]) / rng.uniform(85, 330)
        rate = rng.uniform(-0.4, 0.15) * curvature / 60
    else:
        curvature = rng.normal(0, 1 / 1900)
        rate = rng.normal(0, 1 / 2.2e5)
    return Road(
        heading=float(rng.normal(0, 0.017)),
        curvature_per_m=float(curvature),
        curvature_rate_per_m2=float(rate),
        vertical_curvature_per_m=float(np.clip(rng.normal(0, 6e-5), -1.2e-4, 1.2e-4)),
    )


def _lane_lines(rng: np.random.Generator, category: Category) -> np.ndarray:
    """Offsets of all boundaries from left to right; the camera drives between two of them."""
    lanes = int(rng.choice([1, 2, 3, 4], p=[0.06, 0.3, 0.38, 0.26]))
    if category is Category.CROSSROAD:
        lanes = int(rng.integers(2, 5))
    if category is Category.NO_LINE:
        lanes = min(lanes, 3)
    width = rng.uniform(2.9, 3.85)
    widths = width + rng.normal(0, 0.05, lanes)
    lines = np.concatenate([[0], np.cumsum(widths)])
    ego = int(rng.integers(lanes))
    room = 0.42 if rng.random() < 0.05 else 0.13
    position = 0.5 + np.clip(rng.normal(0, room / 2), -room, room)
    return lines - (lines[ego] + position * widths[ego])


def _sample_surface(rng: np.random.Generator, category: Category, lines: np.ndarray) -> Surface:
    concrete = rng.random() < 0.18
    faint = category is Category.NO_LINE  # there the wheels' tracks tell the lanes
    tone = rng.uniform(118, 168) if concrete else rng.uniform(52, 112)
    warm = rng.normal(0.03 if concrete else 0.01, 0.025)
    road = (tone * (1 - warm), tone, tone * (1 + warm))
    shoulders = rng.uniform(0.25, 2.6, 2)
    kerb = bool(rng.random() < 0.4)
    shade = tone * rng.uniform(0.82, 1.25)
    terrain = _pick(
        rng,
        _TERRAINS,
        0.16,
    )
    tracks = np.concatenate([(lines[:-1] + lines[1:]) / 2 + side for side in (-0.8, 0.8)])
    strips = [
        (float(a), float(b), float(f))
        for a, b, f in zip(lines[:-1], lines[1:], rng.normal(1, 0.035, len(lines) - 1), strict=True)
    ]
    wide = 25.0 if category is Category.CROSSROAD else 0.0
    far = (float(rng.uniform(12, 70)), float(rng.uniform(0.7, 1.4)))
    return Surface(
        left_edge_m=float(lines[0] - 0.3 - wide),
        right_edge_m=float(lines[-1] + 0.3 + wide),
        left_shoulder_m=float(shoulders[0]),
        right_shoulder_m=float(shoulders[1]),
        road=road,
        shoulder=(shade * 0.97, shade, shade * 1.03),
        terrain=terrain,
        grain=float(0.03 + 0.1 * rng.beta(1.2, 2.5)),
        terrain_grain=float(rng.uniform(0.1, 0.26)),
        track_depth=float(rng.uniform(0.05, 0.16) if faint else rng.uniform(-0.05, 0.12)),
        track_offsets_m=tuple(float(t) for t in tracks),
        strips=tuple(strips),
        kerb=kerb,
        far_section=far if rng.random() < 0.12 else None,
    )


def _sample_light(rng: np.random.Generator, category: Category, night: bool) -> Light:
    overcast = rng.random() < 0.45
    strength = 0.0 if overcast or night else rng.uniform(0.25, 0.6)
    if category is Category.SHADOW:
        strength = rng.uniform(0.45, 0.75)
    wet = 0.0 if category is Category.SHADOW or rng.random() < 0.82 else rng.uniform(0.3, 1.0)
    rain = wet if wet and rng.random() < 0.5 else 0.0
    lamps = ()
    if night and rng.random() < 0.75:
        side = rng.choice([-1, 1]) * rng.uniform(6, 11)
        start, step = rng.uniform(4, 30), rng.uniform(22, 40)
        lamps = tuple((float(side), float(start + step * k)) for k in range(4))
    warm = rng.uniform(0.0, 0.3) if night else 0.0
    return Light(
        night=night,
        ambient=float(rng.uniform(0.14, 0.45)) if night else 1.0,
        ambient_tint=(float(1 - warm), 1.0, float(1 + warm)),
        headlight=float(rng.uniform(0.45, 1.0)) if night else 0.0,
        street_lamps_m=lamps,
        shadow_strength=float(0 if night else strength),
        sun_side=float(rng.uniform(-1, 1)),
        wet=float(wet),
        rain=float(rain),
        haze=float(
            rng.uniform(0.0, 0.25) if night or rng.random() < 0.8 else rng.uniform(0.3, 0.7)
        ),
    )


def _sample_optics(rng: np.random.Generator, category: Category, night: bool) -> Optics:
    flares, veil = [], float(rng.uniform(0, 0.05))
    if category is Category.DAZZLE_LIGHT:
        veil = float(rng.uniform(0.12, 0.35))
        col, row = rng.uniform(350, 1290), rng.uniform(40, 330 if night else 250)
        flares.append((float(col), float(row), float(rng.uniform(130, 300)), 1.0))
        if rng.random() < 0.5:  # its image on the wet or polished road
            low, radius = rng.uniform(330, 520), rng.uniform(60, 150)
            flares.append((float(col), float(low), float(radius), 0.6))
    elif rng.random() < 0.08:
        flares.append((float(rng.uniform(0, 1640)), float(rng.uniform(0, 200)), 140.0, 0.5))
    warm = rng.normal(0, 0.05)
    return Optics(
        gain=float(np.clip(rng.normal(1.12 if night else 1.0, 0.16), 0.6, 1.45)),
        gamma=float(np.clip(rng.normal(1.0, 0.12), 0.7, 1.35)),
        tint=(float(1 - warm), float(1 + rng.normal(0, 0.012)), float(1 + warm)),
        contrast=float(np.clip(rng.normal(1.0, 0.1), 0.75, 1.25)),
        saturation=float(rng.uniform(0.55, 1.15)),
        blur_px=float(rng.uniform(0.4, 1.6)),
        motion_px=float(rng.uniform(3, 9)) if rng.random() < 0.15 else 0.0,
        noise=float(rng.uniform(3, 11) if night else rng.uniform(0.8, 5)),
        vignetting=float(rng.uniform(0, 0.35)),
        bonnet_px=float(rng.uniform(8, 62)) if rng.random() < 0.45 else 0.0,
        bonnet=tuple(float(c) for c in rng.uniform(10, 75) * rng.uniform(0.7, 1.3, 3)),
        veil=veil,
        flares=tuple(flares),
    )


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float) -> Colour:
    base = np.array(colours[int(rng.integers(len(colours)))]) * rng.normal(1, spread)
    return tuple(float(c) for c in np.clip(base * rng.normal(1, 0.03, 3), 0, 255))
