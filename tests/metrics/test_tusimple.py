"""TuSimple's score against the official lane.py."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trt_lane.lanes import LaneSet
from trt_lane.metrics.tusimple import TusimpleScore, file_columns, mean, score_image

ROWS = list(range(160, 720, 10))
LANE = [600.0 + 0.4 * (y - 160) for y in ROWS]


def shifted(dx: float) -> list[float]:
    return [x + dx for x in LANE]


@pytest.fixture(scope="module")
def official(shared):
    root = shared / "data" / "tusimple_scorer_cases"
    pred, anno = (
        [json.loads(line) for line in (root / name).read_text().splitlines()]
        for name in ("pred.json", "label.json")
    )
    anno = {a["raw_file"]: a for a in anno}
    scores = [
        score_image(
            p["lanes"],
            anno[p["raw_file"]]["lanes"],
            anno[p["raw_file"]]["h_samples"],
            p["run_time"],
        )
        for p in pred
    ]
    return scores, json.loads((root / "expected.json").read_text())


def test_every_image_equals_the_official_program(official):
    scores, expected = official
    ours = [[s.accuracy, s.fp, s.fn] for s in scores]
    np.testing.assert_allclose(ours, expected["per_image_acc_fp_fn"], rtol=0, atol=1e-12)


def test_the_mean_equals_the_official_program(official):
    scores, expected = official
    total = mean(scores)
    ours = {"Accuracy": total.accuracy, "FP": total.fp, "FN": total.fn}
    assert ours == pytest.approx({e["name"]: e["value"] for e in expected["official"]}, abs=1e-12)
    assert total.images == 120


@pytest.mark.parametrize(
    ("pred", "anno", "expected"),
    [
        ([LANE], [LANE], (1, 0, 0)),
        ([], [LANE], (0, 0, 1)),
        ([LANE], [], (0, 1, 0)),
        ([], [], (0, 0, 0)),
        ([shifted(dx) for dx in (0, 100, 200)], [LANE], (1, 2 / 3, 0)),
        ([shifted(dx) for dx in (0, 100, 200, 300)], [LANE], (0, 0, 1)),
        ([LANE], [LANE, LANE], (1, -1, 0)),
        ([LANE], [shifted(dx) for dx in (0, 90, 180, 270, 360)], (0.25, 0, 0.75)),
    ],
    ids=["same", "missed", "made up", "none", "2 extra", "3 extra", "shared", "fifth forgiven"],
)
def test_rules_of_the_official_program(pred, anno, expected):
    score = score_image(pred, anno, ROWS)
    assert (score.accuracy, score.fp, score.fn) == pytest.approx(expected)


def test_reach_grows_with_the_lean_of_the_lane():
    steep = [600.0 for _ in ROWS]
    assert score_image([[x + 20.5 for x in steep]], [steep], ROWS).accuracy == 0
    assert score_image([shifted(20.5)], [LANE], ROWS).accuracy == 1  # 20 / cos(atan(.4)) = 21.5


def test_slow_images_score_nothing():
    assert score_image([LANE], [LANE], ROWS, run_time_ms=200.0).accuracy == 1
    assert score_image([LANE], [LANE], ROWS, run_time_ms=200.1) == TusimpleScore(0.0, 0.0, 1.0)


def test_absent_points_agree_whether_nan_or_negative():
    half = [x if i % 2 else float("nan") for i, x in enumerate(LANE)]
    minus = [x if i % 2 else -2 for i, x in enumerate(LANE)]
    assert score_image([half], [minus], ROWS).accuracy == 1
    assert score_image([LANE], [minus], ROWS).accuracy == 0.5


def test_lane_of_wrong_length_is_refused():
    with pytest.raises(ValueError, match="3 columns"):
        score_image([[1, 2, 3]], [LANE], ROWS)


def test_a_row_without_a_point_inside_a_lane_of_rows_is_minus_two_as_officially():
    rows = [300, 310, 320]
    on_rows = LaneSet.from_lanes([[[120, 320.001], [100, 300]]], (720, 1280))
    assert file_columns(on_rows, rows) == [[100.0, -2, 120.0]]
    between = LaneSet.from_lanes([[[125, 325], [100, 300]]], (720, 1280))
    assert file_columns(between, rows) == [[100.0, 110.0, 120.0]]


def test_file_columns_hold_minus_two_outside_lane_and_frame():
    lanes = LaneSet.from_lanes([[[-10, 719], [10, 699]], [[300, 100], [300, 50]]], (720, 1280))
    (columns,) = file_columns(lanes, [690, 700, 709, 710, 720])
    assert columns == [-2, 9.0, 0.0, -2, -2]
