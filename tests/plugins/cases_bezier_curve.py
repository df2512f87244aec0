"""Heads for Bézier curves: along the curve and at rows, BezierLaneNet's sizes and small ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import Case

from trt_lane.decoders.bezier_curve import BezierCurve
from trt_lane.plugin_library import LANES_DROPPED

CULANE = BezierCurve(frame_hw=(590, 1640), columns=50)
# pytorch-auto-drive 137e63a, configs/lane_detection/bezierlanenet/resnet18_tusimple_aug1b.py
TUSIMPLE = BezierCurve(
    frame_hw=(720, 1280),
    columns=40,
    threshold=0.5,
    max_lanes=5,
    samples=720,
    rows_px=tuple(range(160, 711, 10)),
)
# 67 columns are two warps and three threads; rows out of order, one twice, one above the frame.
SMALL = BezierCurve(
    (100, 200),
    columns=67,
    threshold=0.5,
    window=3,
    max_lanes=0,
    samples=37,
    rows_px=(40.0, 90.0, 60.0, -3.0, 60.0),
    row_tolerance_px=2.5,
)


def with_lanes(
    decoder: BezierCurve, lanes: dict[int, float], seed: int = 0
) -> dict[str, np.ndarray]:
    """Unlikely random curves, and at these columns likely ones with the logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-6, 0.5, decoder.columns).astype(np.float32)
    bottom = rng.uniform(0, 1, (decoder.columns, 1))
    share = np.linspace(0, 1, 4)
    x = bottom + (0.5 - bottom) * share * 0.8 + rng.normal(0, 0.02, (decoder.columns, 4))
    y = 1 - 0.65 * share + rng.normal(0, 0.02, (decoder.columns, 4))
    for column, logit in lanes.items():
        logits[column] = logit
    return {"logits": logits, "curves": np.stack([x, y], axis=2).astype(np.float32)}


def cases() -> list[Case]:
    """See cases.py."""
    typical = with_lanes(CULANE, {5: 4.0, 17: 5.5, 20: 5.0, 30: 6.0, 44: 3.5})
    rows = with_lanes(TUSIMPLE, {2: 1.0, 9: 3.0, 18: 2.5, 27: 4.0, 36: 0.3}, seed=1)
    full = {column: 1 + column / 67 for column in range(0, 67, 2)}
    small = with_lanes(SMALL, full, seed=2)
    tie = with_lanes(SMALL, {10: 0.0, 30: 1e-3, 50: -1e-3}, seed=3)  # one half is the threshold
    equal = with_lanes(CULANE, {3: 5.0, 7: 5.0, 20: 5.0, 23: 4.0, 40: 40.0, 45: 60.0}, seed=4)
    last = with_lanes(CULANE, {3: 5.0, 13: 6.0, 23: 5.0, 33: 5.0, 43: 7.0}, seed=5)
    down = {**typical, "curves": typical["curves"][:, ::-1].copy()}
    edge = with_lanes(SMALL, {0: 3.0, 30: 2.0, 50: 2.5, 66: 4.0}, seed=6)
    edge["curves"][0, :, 0] = 0
    edge["curves"][66, :, 0] = 1
    edge["curves"][30, :, 0] = [-0.2, 0.1, 0.9, 1.2]
    edge["curves"][50] = 7  # far outside
    loop = with_lanes(TUSIMPLE, {20: 5.0}, seed=7)
    loop["curves"][20, :, 1] = [0.3, 1.6, -0.4, 0.8]  # meets rows three times
    huge = with_lanes(CULANE, {10: 9.0, 30: 8.0}, seed=8)
    huge["curves"][30] *= np.float32(1e38)
    huge["curves"][10, 1:, 0] = 3e38
    huge["logits"][40] = -3e38
    without_window = replace(CULANE, window=0, max_lanes=3)
    every = replace(CULANE, threshold=-1.0, max_lanes=0, window=0, samples=5)
    return [
        Case("typical", CULANE, typical),
        Case("full_size_tusimple", TUSIMPLE, rows),
        Case("empty", CULANE, with_lanes(CULANE, {})),
        Case("empty_at_rows", TUSIMPLE, with_lanes(TUSIMPLE, {})),
        Case("one", TUSIMPLE, with_lanes(TUSIMPLE, {11: 2.0}, seed=9)),
        Case("tie_at_threshold", SMALL, tie),
        Case("equal_neighbours", CULANE, equal),
        Case("equal_for_the_last_place", CULANE, last),
        Case("all_equal", CULANE, with_lanes(CULANE, dict.fromkeys(range(0, 50, 9), 5.0))),
        Case("no_window", without_window, typical),
        Case("downwards", CULANE, down),
        Case("image_edge", SMALL, edge),
        Case("meets_rows_often", TUSIMPLE, loop),
        Case("huge_control_points", CULANE, huge),
        *_broken(CULANE, typical, ""),
        *_broken(TUSIMPLE, rows, "_at_rows"),
        *_broken(every, typical, "_all_chosen")[:1],  # numpy warns of infinities
        Case("every_slot_full", SMALL, small, {"slots": len(SMALL(**small))}),
        Case("one_more_than_full", SMALL, small, {"slots": len(SMALL(**small)) - 1}, LANES_DROPPED),
        Case("more_slots_than_lanes", CULANE, typical, {"slots": 9}),
        Case(
            "one_column",
            replace(SMALL, columns=1, rows_px=(), samples=2),
            with_lanes(replace(SMALL, columns=1), {0: 3.0}),
        ),
    ]


def _broken(decoder: BezierCurve, heads: dict[str, np.ndarray], ending: str) -> list[Case]:
    """NaN and infinities in both heads, some of them in what else is a lane."""
    found = []
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken = {key: head.copy() for key, head in heads.items()}
        for i, value in enumerate(values):
            broken["logits"][17 + i :: 11] = value
            broken["curves"][2 + i :: 8, 1 + i, i] = value
        found.append(Case(name + ending, decoder, broken))
    return found


def shared_cases(shared: Path) -> list[Case]:
    """BezierLaneNet's official heads."""
    with np.load(shared / "data" / "decoder_cases" / "bezier.npz") as arrays:
        numbers = sorted({key.partition("/")[0] for key in arrays.files}, key=int)
        return [
            Case(n, CULANE, {name: arrays[f"{n}/{name}"][0] for name in ("logits", "curves")})
            for n in numbers
        ]
