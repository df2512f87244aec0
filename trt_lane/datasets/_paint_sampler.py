"""Draws what lies flat on a road: painted lines, arrows, words, crossings, seams and cracks."""

import numpy as np

from trt_lane.datasets._road_scene import Category, Decal, GroundShape, Stripe, Surface


def sample_markings(
    rng: np.random.Generator, category: Category, lines: np.ndarray, split: int
) -> tuple[Stripe, ...]:
    """Painted lines at every boundary: edges solid, lane lines mostly dashed, `split` in yellow."""
    white_tone = rng.uniform(185, 240)
    white = (white_tone * rng.uniform(0.92, 1.0), white_tone, white_tone)
    yellow = (rng.uniform(45, 110), rng.uniform(150, 190), rng.uniform(195, 230))
    width = rng.uniform(0.10, 0.22)
    dash, gap = ((3, 9), (6, 9), (2, 4), (3, 6), (4, 6), (9, 6))[int(rng.integers(6))]
    phase = rng.uniform(0, dash + gap)
    worn_road = rng.uniform(0, 0.45) if rng.random() < 0.65 else rng.uniform(0.45, 0.7)
    fade = rng.uniform(0.02, 0.2) if category is Category.NO_LINE else rng.uniform(0.55, 1.0)
    left_yellow = bool(split) or rng.random() < 0.35
    double_split = rng.random() < 0.6
    split_dashed = rng.random() < 0.25
    edge_missing = category is not Category.NO_LINE and rng.random() < 0.1
    stripes = []
    for k, x in enumerate(lines):
        edge = k in (0, len(lines) - 1)
        colour = yellow if (k == split and left_yellow) else white
        dashed = (not edge and k != split and rng.random() < 0.88) or (
            k == split and not edge and split_dashed
        )
        opacity = float(np.clip(fade * rng.uniform(0.75, 1.1), 0, 1))
        wear = float(np.clip(worn_road + rng.normal(0, 0.12), 0, 0.9))
        if edge and edge_missing:
            opacity *= 0.15
        double = not dashed and (
            (k == split and split and double_split) or (not edge and rng.random() < 0.2)
        )
        for shift in (-0.14, 0.14) if double else (0.0,):
            stripes.append(
                Stripe(
                    offset_m=float(x + shift),
                    width_m=float(np.clip(width * rng.uniform(0.9, 1.1), 0.1, 0.25)),
                    colour=colour,
                    opacity=opacity,
                    wear=wear,
                    dash_m=float(dash) if dashed else 0.0,
                    period_m=float(dash + gap),
                    phase_m=float(phase + rng.normal(0, 0.4)),
                    wobble_m=0.0,
                )
            )
    return tuple(stripes)


def sample_seams(
    rng: np.random.Generator, category: Category, surface: Surface
) -> tuple[Stripe, ...]:
    """Lines along the road that are no markings."""
    left, right = surface.left_edge_m, surface.right_edge_m
    count = int(rng.choice(5, p=[0.35, 0.3, 0.2, 0.1, 0.05]))
    if category in (Category.CROSSROAD, Category.NO_LINE):
        count //= 3
    seams = []
    for _ in range(count):
        dark = rng.random() < 0.75
        tone = np.mean(surface.road) * (rng.uniform(0.35, 0.7) if dark else rng.uniform(1.2, 1.5))
        near = rng.uniform(0, 25)
        seams.append(
            Stripe(
                offset_m=float(rng.uniform(left, right)),
                width_m=float(rng.uniform(0.03, 0.14)),
                colour=(float(tone),) * 3,
                opacity=float(rng.uniform(0.3, 0.9)),
                wear=float(rng.uniform(0, 0.4)),
                wobble_m=float(rng.uniform(0, 0.12)),
                phase_m=float(rng.uniform(0, 40)),
                near_m=float(near if rng.random() < 0.5 else 0),
                far_m=float(near + rng.uniform(10, 80)),
            )
        )
    return tuple(seams)


def sample_damage(rng: np.random.Generator, surface: Surface) -> tuple[Decal, ...]:
    """Patches and cracks."""
    decals = []
    for _ in range(int(rng.choice(5, p=[0.4, 0.25, 0.15, 0.12, 0.08]))):
        tone = np.mean(surface.road) * rng.choice([rng.uniform(0.5, 0.85), rng.uniform(1.1, 1.35)])
        shape = GroundShape.PATCH if rng.random() < 0.6 else GroundShape.CRACK
        decals.append(
            Decal(
                shape=shape,
                offset_m=float(rng.uniform(-7, 7)),
                distance_m=float(rng.uniform(5, 45)),
                width_m=float(rng.uniform(0.6, 3.2)),
                length_m=float(rng.uniform(1, 14)),
                colour=(float(tone if shape is GroundShape.PATCH else 30),) * 3,
                opacity=float(rng.uniform(0.35, 0.9)),
            )
        )
    return tuple(decals)


def sample_lane_decals(
    rng: np.random.Generator, category: Category, lines: np.ndarray, ego: int, split: int
) -> tuple[Decal, ...]:
    """Arrows and words in the lanes."""
    wanted = category is Category.ARROW
    if not wanted and rng.random() > 0.06:
        return ()
    shapes = (
        GroundShape.ARROW_AHEAD,
        GroundShape.ARROW_TURN,
        GroundShape.ARROW_TURN,
        GroundShape.TEXT,
        GroundShape.DIAMOND,
    )
    tone = float(rng.uniform(180, 235))
    opacity = float(rng.uniform(0.55, 1.0) if wanted else rng.uniform(0.3, 0.8))
    first = float(rng.uniform(6.5, 16))
    decals = []
    for k in range(max(split, ego - 1), min(len(lines) - 1, ego + 2)):
        if k != ego and rng.random() < 0.25:
            continue
        shape = shapes[int(rng.integers(len(shapes)))]
        for repeat in range(int(rng.integers(1, 3))):
            decals.append(
                Decal(
                    shape=shape,
                    offset_m=float((lines[k] + lines[k + 1]) / 2),
                    distance_m=first + 26.0 * repeat,
                    width_m=float(rng.uniform(1.1, 1.9)),
                    length_m=float(rng.uniform(3.5, 6.5)),
                    colour=(tone, tone, tone),
                    opacity=opacity,
                    mirror=int(rng.choice([-1, 1])),
                )
            )
    return tuple(decals)


def sample_crossing(rng: np.random.Generator) -> tuple[Decal, ...]:
    """Zebra crossings and stop lines of an intersection."""
    tone = float(rng.uniform(175, 230))
    opacity = float(rng.uniform(0.5, 1.0))
    near = float(rng.uniform(7, 26))
    half = float(rng.uniform(7, 14))
    decals = []
    for distance in (near, near + float(rng.uniform(18, 30))):
        if distance > near and rng.random() < 0.4:
            continue
        decals.append(
            Decal(
                shape=GroundShape.CROSSWALK if rng.random() < 0.85 else GroundShape.STOP_LINE,
                offset_m=float(rng.uniform(-2, 2)),
                distance_m=distance,
                width_m=2 * half,
                length_m=float(rng.uniform(2.5, 5)),
                colour=(tone, tone, tone),
                opacity=opacity,
            )
        )
    return tuple(decals)
