"""Heads for row anchors: UFLD's own sizes and small ones that leave warps partly empty."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import Case

from trt_lane.decoders.row_anchor import RowAnchor
from trt_lane.plugin_library import LANES_DROPPED

CULANE = RowAnchor(
    frame_hw=(590, 1640),
    rows_px=tuple(590 * a / 288 - 1 for a in range(121, 288, 10)),
    cells=200,
    lanes=4,
    cell_px=799 / 199 * 1640 / 800,
    cell_offset=1.0,
    x_offset_px=-1.0,
)
# Rows out of order, two of them equal; 5 x 7 anchors are a warp and three threads.
ODD = RowAnchor((100, 200), (40.0, 80.0, 20.0, 60.0, 60.0), cells=67, lanes=7, cell_px=3.0)


def with_lanes(decoder: RowAnchor, lanes: range, seed: int = 0) -> np.ndarray:
    """Noisy logits (G + 1, R, L) with straight lanes; the other lanes are "no lane"."""
    rng = np.random.default_rng(seed)
    rows = len(decoder.rows_px)
    logits = rng.normal(0, 1, decoder.head_shape).astype(np.float32)
    logits[-1] += 8
    cell = np.arange(decoder.cells)[:, None]
    for lane in lanes:
        at = np.linspace(*rng.uniform(0, decoder.cells - 1, 2), rows)
        logits[:-1, :, lane] += 14 * np.exp(-(((cell - at) / 1.7) ** 2)).astype(np.float32)
    return logits


def cases() -> list[Case]:
    """See cases.py."""
    typical = with_lanes(CULANE, range(1, 4))
    full = with_lanes(ODD, range(7), seed=1)
    tie = np.zeros(ODD.head_shape, np.float32)  # no lane as likely as the first cell: a point
    few = with_lanes(ODD, range(0))
    few[:, :3, 2] = full[:, :3, 2]  # exactly as many points as a lane needs
    few[:, :2, 4] = full[:, :2, 4]  # one less
    edge = with_lanes(CULANE, range(0))
    edge[0, :, 0] = edge[-2, :, 3] = 60
    broken = {}
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken[name] = typical.copy()
        for i, value in enumerate(values):
            broken[name][17 + i, i::5, 1] = value
            broken[name][-1, 3, 2 + i] = value
            broken[name][:, :, 0] = value
    huge = with_lanes(ODD, range(7), seed=2) * np.float32(1e37)
    return [
        Case("typical", CULANE, {"logits": typical}),
        Case("empty", CULANE, {"logits": with_lanes(CULANE, range(0))}),
        Case("one", CULANE, {"logits": with_lanes(CULANE, range(2, 3))}),
        Case("tie_at_threshold", ODD, {"logits": tie}),
        Case("as_many_points_as_needed", ODD, {"logits": few}),
        Case("image_edge", CULANE, {"logits": edge}),
        *(Case(name, CULANE, {"logits": logits}) for name, logits in broken.items()),
        Case("huge_logits", ODD, {"logits": huge}),
        Case("every_slot_full", ODD, {"logits": full}),
        Case("one_more_than_full", ODD, {"logits": full}, {"slots": 6}, LANES_DROPPED),
        Case("more_slots_than_lanes", ODD, {"logits": full}, {"slots": 9}),
        Case("noise", CULANE, {"logits": typical * np.float32(0.05)}),
        Case(
            "one_cell",
            replace(ODD, cells=1, lanes=1, rows_px=(3.0,), min_points=1),
            {"logits": np.float32([[[1.0]], [[0.5]]])},
        ),
    ]


def shared_cases(shared: Path) -> list[Case]:
    """UFLD's official heads."""
    with np.load(shared / "data" / "decoder_cases" / "ufld.npz") as heads:
        decoder = replace(CULANE, rows_px=tuple(590 * a / 288 - 1 for a in _ANCHORS))
        return [Case(key, decoder, {"logits": heads[key]}) for key in heads.files]


# cfzd/Ultra-Fast-Lane-Detection 353df10, data/constant.py.
_ANCHORS = (
    *(121, 131, 141, 150, 160, 170, 180, 189, 199),
    *(209, 219, 228, 238, 248, 258, 267, 277, 287),
)
