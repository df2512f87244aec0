"""CurveLanes' F1 against the official program's counts."""

from __future__ import annotations

import numpy as np
import pytest
from made_lanes import made

from trt_lane.metrics.culane import CulaneCounts
from trt_lane.metrics.curvelanes import score_image

FRAME_HW = (1440, 2560)
LANE = np.array([[600.0, 1400], [900, 1000], [1100, 700]])


def moved(right_px):
    return LANE + np.array([right_px, 0.0])


# tools/condlanenet/lane_metric.py (evaluate_core, 224x224, width 5) of
# aliyun/conditional-lane-detection gave these on the same lanes, image by image as well.
@pytest.mark.parametrize(
    ("threshold", "official"),
    [(0.3, (82, 48, 89)), (0.5, (59, 71, 112)), (0.75, (25, 105, 146))],
)
def test_counts_equal_the_official_program(threshold, official):
    total = CulaneCounts()
    for pred, anno, frame_hw in made(60):
        total += score_image(pred, anno, frame_hw, threshold)
    assert (total.tp, total.fp, total.fn) == official


@pytest.mark.parametrize(
    ("pred", "anno", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([LANE], [], (0, 1, 0)),
        ([], [LANE], (0, 0, 1)),
        ([LANE], [LANE[::-1]], (1, 0, 0)),
        ([LANE[:1]], [LANE], (0, 1, 1)),
        ([np.zeros((0, 2))], [LANE], (0, 0, 1)),
        ([moved(9000)], [moved(9000)], (0, 1, 1)),
        ([LANE[[0, 0, 1, 2, 2]]], [LANE], (1, 0, 0)),
    ],
    ids=["none", "made up", "missed", "reversed", "a point", "no point", "outside", "doubled"],
)
def test_edge_cases(pred, anno, expected):
    counts = score_image(pred, anno)
    assert (counts.tp, counts.fp, counts.fn) == expected


def test_a_lane_is_judged_on_the_small_picture():
    # 5 of 224 px are 57 px of the frame: two lanes half as far apart share more than a third.
    assert score_image([moved(15)], [LANE], FRAME_HW).tp == 1
    assert score_image([moved(40)], [LANE], FRAME_HW).tp == 0
