"""Heads for LSTR's curves: TuSimple's and CULane's sizes, and small ones for every edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cases import Case

from trt_lane.decoders.lstr_curve import LstrCurve
from trt_lane.plugin_library import LANES_DROPPED

TUSIMPLE = LstrCurve((720, 1280), tuple(range(710, 150, -10)), queries=7, classes=2)
CULANE = LstrCurve((590, 1640), tuple(range(589, 248, -20)), queries=7, classes=3, to_bottom=True)
# 35 queries are a warp and three; rows out of order, one twice, one on the vanishing line.
SMALL = LstrCurve(
    (100, 200), (50.0, 90.0, 20.0, 70.0, 70.0), queries=35, classes=4, lane_class=2, min_points=3
)
VANISHING = 0.2


def with_lanes(decoder: LstrCurve, lanes: range, seed: int = 0) -> dict[str, np.ndarray]:
    """Random curves from the vanishing line to the bottom; those of the queries are lanes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (decoder.queries, decoder.classes)).astype(np.float32)
    logits[:, 0] += 8
    logits[list(lanes), decoder.lane_class] += 14
    curves = np.zeros((decoder.queries, 8), np.float32)
    curves[:, 0] = rng.uniform(0.4, 0.55, decoder.queries)
    curves[:, 1] = rng.uniform(0.9, 1, decoder.queries)
    curves[:, 2] = rng.normal(0, 0.002, decoder.queries)
    curves[:, 3] = VANISHING
    curves[:, 4] = rng.normal(0, 0.01, decoder.queries)
    curves[:, 5] = rng.uniform(0.3, 0.7, decoder.queries)
    curves[:, 6] = rng.uniform(-0.2, 0.2, decoder.queries)
    curves[:, 7] = 0.01
    return {"pred_logits": logits, "pred_curves": curves}


def straight(decoder: LstrCurve, *x: float) -> dict[str, np.ndarray]:
    """One lane straight up at each x, a share of the width, over the height of the frame."""
    heads = with_lanes(decoder, range(len(x)))
    heads["pred_curves"][: len(x)] = 0
    heads["pred_curves"][: len(x), 1] = 1
    heads["pred_curves"][: len(x), 5] = x
    return heads


def cases() -> list[Case]:
    """See cases.py."""
    typical = with_lanes(TUSIMPLE, range(1, 5))
    full = with_lanes(SMALL, range(35), seed=1)
    tie = with_lanes(SMALL, range(4), seed=2)
    tie["pred_logits"][0] = 1  # the first class is as likely
    tie["pred_logits"][1] = [0, 1, 3, 3]  # a later one: a lane
    tie["pred_logits"][2] = [0, 3, 3, 1]
    tie["pred_curves"][3, :2] = [0.7, 0.9]  # both ends on rows: three points, as many as needed
    few = with_lanes(SMALL, range(2), seed=3)
    few["pred_curves"][:2, :2] = [[0.71, 0.9], [0.7, 0.89]]
    edge = straight(SMALL, 0.0, 199 / 200, 0.9951, -0.0001)
    edge["pred_curves"][0, 6:] = 0.0, -0.0
    either = with_lanes(TUSIMPLE, range(7), seed=4)
    either["pred_curves"][::2, :2] = either["pred_curves"][::2, 1::-1]
    huge = with_lanes(CULANE, range(7), seed=5)
    huge["pred_logits"] *= np.float32(1e37)
    huge["pred_curves"][:5, 2:7] += np.float32(3e38) * np.eye(5, dtype=np.float32)
    vanishing = with_lanes(SMALL, range(9), seed=6)
    vanishing["pred_curves"][:9, 0] = 0
    vanishing["pred_curves"][3:6, 2] = 0
    vanishing["pred_curves"][6:9, 2:5:2] = 0
    return [
        Case("typical", TUSIMPLE, typical),
        Case("full_size_culane", CULANE, with_lanes(CULANE, range(2, 6), seed=7)),
        Case("empty", TUSIMPLE, with_lanes(TUSIMPLE, range(0))),
        Case("one", CULANE, straight(CULANE, 0.5)),
        Case("tie_at_threshold", SMALL, tie),
        Case("as_many_points_as_needed", SMALL, few),
        Case("image_edge", SMALL, edge),
        Case("ends_in_either_order", TUSIMPLE, either),
        Case("row_on_the_vanishing_line", SMALL, vanishing),
        *_broken(typical),
        Case("huge_numbers", CULANE, huge),
        Case("every_slot_full", SMALL, full, {"slots": len(SMALL(**full))}),
        Case("one_more_than_full", SMALL, full, {"slots": len(SMALL(**full)) - 1}, LANES_DROPPED),
        Case("more_slots_than_queries", TUSIMPLE, typical, {"slots": 40}),
        Case(
            "one_class",
            replace(TUSIMPLE, classes=1, lane_class=0, queries=1),
            {key: head[:1, -1:] for key, head in typical.items()}
            | {"pred_curves": typical["pred_curves"][:1]},
        ),
    ]


def _broken(heads: dict[str, np.ndarray]) -> list[Case]:
    """NaN and infinities in some lanes."""
    found = []
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken = {key: head.copy() for key, head in heads.items()}
        for i, value in enumerate(values):
            broken["pred_logits"][1 + i, i] = value
            broken["pred_curves"][3 + i, 5 * i] = value
        found.append(Case(name, TUSIMPLE, broken))
    return found
