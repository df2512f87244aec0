"""Heads for row and column anchors: UFLDv2's three data sets, and small ones for every edge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import Case

from trt_lane.decoders.row_column_anchor import Refit, RowColumnAnchor
from trt_lane.plugin_library import LANES_DROPPED

CULANE = RowColumnAnchor(
    (590, 1640), 72, 81, 200, 100, top=0.42, above_rows=72 / 2, above_columns=81 / 4
)
TUSIMPLE = RowColumnAnchor(
    *((720, 1280), 56, 41, 100, 100),
    top=160 / 720,
    bottom=710 / 720,
    row_lanes=(0, 1, 2, 3),
    column_lanes=(),
    window=14,
    above_rows=3,
    above_columns=3,
)
CURVELANES = RowColumnAnchor(
    *((1440, 2560), 72, 41, 200, 100),
    top=0.4,
    lanes=10,
    row_lanes=tuple(range(10)),
    column_lanes=tuple(range(10)),
    above_rows=18,
    above_columns=41 / 4,
    refit=Refit.MERGED,
)
# 18 and 15 anchors leave a warp half empty; the lanes' order is not that of the heads.
SMALL = RowColumnAnchor(
    *((100, 200), 6, 5, 11, 13),
    top=0.5,
    lanes=3,
    row_lanes=(2, 0),
    column_lanes=(1, 2),
    above_rows=2,
    above_columns=1,
)
# A parabola magnifies the float32 steps of the points it goes through; at most 5 px in 40 of
# height are lengthened to the frame's width: 1e-5 of it.
REFITTED = 1e-5
# Four float32 steps at the frame's far edge: numpy computes places in float32 with an exp of its
# own, and three of them are seen.
PLACED = 5e-7


def with_lanes(
    decoder: RowColumnAnchor, rows: tuple[int, ...], columns: tuple[int, ...], seed: int = 0
) -> dict[str, np.ndarray]:
    """Noisy heads with lanes on the rows and on the columns; the others do not exist."""
    rng = np.random.default_rng(seed)
    heads = {k: rng.normal(0, 1, s).astype(np.float32) for k, s in decoder.head_shapes.items()}
    for end, lanes, cells in (
        ("row", rows, decoder.row_cells),
        ("col", columns, decoder.column_cells),
    ):
        loc, exist = heads[f"loc_{end}"], heads[f"exist_{end}"]
        exist[0] += 6
        share = np.linspace(0, 1, loc.shape[1])
        for lane in lanes:
            first, last, bend = rng.uniform(0.1, 0.9, 3)
            at = (first + (last - first) * share + (bend - 0.5) * 0.3 * share * (1 - share)) * cells
            bump = np.exp(-(((np.arange(cells)[:, None] - at) / 1.7) ** 2))
            loc[:, :, lane] += 14 * bump.astype(np.float32)
            exist[1, :, lane] += 12
    return heads


def cases() -> list[Case]:
    """See cases.py."""
    return [_placed(case) for case in _cases()]


def _placed(case: Case) -> Case:
    tolerance = case.tolerance_px or PLACED * max(case.decoder.frame_hw)
    return replace(case, tolerance_px=tolerance)


def _cases() -> list[Case]:
    typical = with_lanes(CULANE, (1, 2), (0, 3))
    full = with_lanes(SMALL, (0, 2), (1,), seed=1)
    both = with_lanes(SMALL, (0, 2), (1, 2), seed=2)
    late = with_lanes(SMALL, (0,), (2, 1), seed=3)  # lane 2 from its columns, after 0
    tie = {k: v.copy() for k, v in full.items()}
    tie["exist_row"][:, 0] = 5  # a tie of existence is no point
    tie["exist_row"][:, :3, 2] = 4  # as many points as are too few
    peaks = with_lanes(SMALL, (0, 2), (1,), seed=4)
    peaks["loc_row"][:] = 0
    peaks["loc_row"][4:8:3] = 9  # the first of equals
    edge = with_lanes(CULANE, (1, 2), (0, 3), seed=5)
    edge["loc_row"][0, :, 1] = edge["loc_row"][-1, :, 2] = 60
    edge["loc_col"][0, :, 0] = edge["loc_col"][-1, :, 3] = 60
    huge = {k: v * np.float32(1e37) for k, v in with_lanes(SMALL, (0, 2), (1,), seed=6).items()}
    merged = replace(SMALL, refit=Refit.MERGED)
    single = RowColumnAnchor(
        *((100, 200), 1, 1, 2, 2), top=0.5, lanes=1, row_lanes=(0,), column_lanes=(0,)
    )
    one = {k: v.copy() for k, v in typical.items()}
    one["exist_col"][0] += 99
    one["exist_row"][0, :, 1] += 99
    return [
        Case("typical", CULANE, typical),
        Case("full_size_tusimple", TUSIMPLE, with_lanes(TUSIMPLE, (0, 1, 3), (2,), seed=9)),
        _refitted(
            "full_size_curvelanes",
            CURVELANES,
            with_lanes(CURVELANES, (0, 2, 3, 5, 8), (1, 2, 5, 9), seed=8),
        ),
        Case("empty", CULANE, with_lanes(CULANE, (), ())),
        Case("one", CULANE, one),
        Case("tie_at_threshold", SMALL, tie),
        Case("equal_peaks", SMALL, peaks),
        Case("image_edge", CULANE, edge),
        *_broken(CULANE, typical),
        Case("every_slot_full", SMALL, full),
        Case("one_more_than_full", SMALL, full, {"slots": len(SMALL(**full)) - 1}, LANES_DROPPED),
        Case("more_slots_than_lanes", SMALL, full, {"slots": 9}),
        Case("rows_and_columns_of_a_lane", SMALL, both),
        Case("columns_of_a_lane_without_rows", SMALL, late),
        Case("rows_only", replace(SMALL, column_lanes=()), both),
        Case("no_lanes_read", replace(SMALL, row_lanes=(), column_lanes=()), both),
        Case("wide_window", replace(SMALL, window=40), both),
        Case("no_window", replace(SMALL, window=0), both),
        Case("huge_logits", SMALL, huge),
        _refitted("merged", merged, both),
        _refitted("merged_late", merged, late),
        _upright(),
        _two_heights(),
        Case("one_anchor", single, with_lanes(single, (0,), (0,), seed=9)),
    ]


def _refitted(name: str, decoder: RowColumnAnchor, heads: dict[str, np.ndarray]) -> Case:
    return Case(name, decoder, heads, tolerance_px=REFITTED * max(decoder.frame_hw))


def _upright() -> Case:
    """Lanes straight up, whose places lie exactly on cells: y(x) goes through one or two of them.

    It is the worse parabola. No lane is flat to the last digit: which of its ends is the lower,
    rounding says in numpy.
    """
    decoder = RowColumnAnchor(
        *((100, 200), 21, 9, 11, 11),
        top=0.0,
        row_lanes=(1, 2),
        column_lanes=(0,),
        refit=Refit.MERGED,
    )
    heads = {k: np.zeros(s, np.float32) for k, s in decoder.head_shapes.items()}
    heads["exist_row"][0] = heads["exist_col"][0] = 9
    heads["loc_col"][(4,) * 5 + (6,) * 4, range(9), 0] = 200
    heads["exist_col"][1, :, 0] = 18
    heads["loc_row"][(3,) * 10 + (4,) * 11, range(21), 1] = 200
    heads["loc_row"][7, :, 2] = 200
    heads["exist_row"][1, :, 1:3] = 18
    return _refitted("merged_at_two_places", decoder, heads)


def _two_heights() -> Case:
    """Three corners of a rectangle higher than wide: x(y) is the better one, through two places.

    Many parabolas go through two places equally well.
    """
    decoder = RowColumnAnchor(
        *((100, 200), 2, 2, 11, 11),
        top=0.2,
        lanes=1,
        row_lanes=(0,),
        column_lanes=(0,),
        refit=Refit.MERGED,
    )
    heads = {k: np.zeros(s, np.float32) for k, s in decoder.head_shapes.items()}
    heads["exist_col"][0] = 9
    heads["loc_row"][7] = 200  # (150, 20) and (150, 100)
    heads["exist_row"][1] = 18
    heads["loc_col"][9:, 1] = 200  # (200, 100)
    heads["exist_col"][1, 1] = 18
    return _refitted("merged_at_two_heights", decoder, heads)


def _broken(decoder: RowColumnAnchor, heads: dict[str, np.ndarray]) -> list[Case]:
    """NaN and infinities in every head, on some anchors and in a whole lane."""
    found = []
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken = {key: head.copy() for key, head in heads.items()}
        for i, value in enumerate(values):
            broken["loc_row"][17 + i, i::5, 1] = value
            broken["loc_col"][99 - i, i::7, 3] = value
            broken["exist_row"][i, 3::11, 2] = value
            broken["exist_col"][1 - i, :, 0] = value
        found.append(Case(name, decoder, broken))
    return found


def shared_cases(shared: Path) -> list[Case]:
    """UFLDv2's official heads."""
    with np.load(shared / "data" / "decoder_cases" / "ufldv2.npz") as arrays:
        numbers = sorted({key.partition("/")[0] for key in arrays.files}, key=int)
        return [
            _placed(Case(n, CULANE, {k: arrays[f"{n}/{k}"][0] for k in CULANE.head_shapes}))
            for n in numbers
        ]
