"""CULane's F1 against the official evaluator's counts and its edge cases."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from trt_lane.datasets.base import Label
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import (
    FRAME_HW,
    CulaneCounts,
    agreement,
    iou_matrix,
    score,
    score_image,
)
from trt_lane.metrics.culane_spline import spline_points
from trt_lane.metrics.culane_strip import draw_strip
from trt_lane.metrics.report import MF1_IOUS, score_labels
from trt_lane.model import Metric

THRESHOLDS = (0.3, 0.5, 0.75)


def read_lanes(path: Path) -> list[np.ndarray]:
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [np.array(line.split(), np.float64).reshape(-1, 2) for line in lines]


def straight(x: float, lean: float = 0.5) -> np.ndarray:
    y = np.arange(590, 290, -10.0)
    return np.stack([x + lean * (590 - y), y], axis=1)


@pytest.fixture(scope="module")
def official(shared):
    """(pred, anno) lanes by image and what the official C++ evaluator counted."""
    root = shared / "data" / "culane_scorer_cases"
    names = (root / "list.txt").read_text().split()
    pairs = {}
    for name in names:
        stem = name.lstrip("/").removesuffix(".jpg") + ".lines.txt"
        pairs[name] = (read_lanes(root / "pred" / stem), read_lanes(root / "anno" / stem))
    return pairs, json.loads((root / "expected.json").read_text())


def test_totals_equal_the_official_evaluator_at_every_threshold(official):
    pairs, expected = official
    counts = score(pairs.values(), THRESHOLDS)
    assert [[c.tp, c.fp, c.fn] for c in counts] == [expected[str(t)]["total"] for t in THRESHOLDS]


def test_every_image_equals_the_official_evaluator(official):
    pairs, expected = official
    for name, (pred, anno) in pairs.items():
        (c,) = score_image(pred, anno)
        assert [c.tp, c.fp, c.fn] == expected["0.5"]["per_image"][name], name


def test_cut_mask_holds_the_pixels_of_one_line_per_spline_segment_on_the_whole_frame():
    rng = np.random.default_rng(3)
    for _ in range(20):
        lane = np.stack([rng.uniform(-300, 1900, 6), rng.uniform(-100, 700, 6)], axis=1)
        lane = lane.astype(np.float32)
        whole = np.zeros(FRAME_HW, np.uint8)
        pixels = np.rint(spline_points(lane)).astype(int).tolist()
        for start, end in pairwise(pixels):
            cv2.line(whole, start, end, 1, 30)
        strip = draw_strip(lane)
        height, width = strip.mask.shape
        pasted = np.zeros(FRAME_HW, np.uint8)
        pasted[strip.top : strip.top + height, strip.left : strip.left + width] = strip.mask
        np.testing.assert_array_equal(pasted, whole)
        assert strip.area_px == whole.sum()


@pytest.mark.parametrize(
    ("pred", "anno", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([], [straight(400)], (0, 0, 1)),
        ([straight(400)], [], (0, 1, 0)),
        ([straight(400)], [straight(400)], (1, 0, 0)),
        ([straight(400)[::-1]], [straight(400)], (1, 0, 0)),
        ([straight(400)] * 2, [straight(400)], (1, 1, 0)),
        ([straight(400)[:1]], [straight(400)], (0, 1, 1)),
        ([straight(400)[:0]], [straight(400)], (0, 1, 1)),
        ([straight(400)[[0, -1]]], [straight(400)], (1, 0, 0)),
        ([straight(5000)], [straight(6000)], (0, 1, 1)),
        ([straight(5000), straight(400)], [straight(400), straight(6000)], (0, 2, 2)),
        ([np.repeat(straight(400), 2, axis=0)], [straight(400)], (0, 1, 1)),
    ],
    ids=[
        "nothing",
        "missed",
        "made up",
        "same",
        "reversed",
        "twice",
        "one point",
        "no point",
        "two points",
        "both outside the frame",
        "no pair of the outside lanes, so all lose theirs",
        "doubled points",
    ],
)
def test_special_lanes_count_as_officially(pred, anno, expected):
    assert score_image(pred, anno) == (CulaneCounts(*expected),)


def test_iou_at_the_threshold_does_not_count():
    pred, anno = [straight(400)], [straight(406)]
    iou = iou_matrix(anno, pred)[0, 0]
    below, at = score_image(pred, anno, thresholds=(np.nextafter(iou, 0), iou))
    assert (below.tp, at.tp) == (1, 0)


def test_lanes_of_another_frame_size_are_scaled_to_the_official_one():
    lanes = LaneSet.from_lanes([straight(400), straight(900)], FRAME_HW)
    small = lanes.scaled_to((295, 820))
    assert score_image(small, lanes) == (CulaneCounts(2, 0, 0),)


def test_frame_size_and_width_are_parameters():
    narrow = score_image([straight(400)], [straight(412)], width_px=10)
    wide = score_image([straight(400)], [straight(412)], width_px=60)
    assert (narrow[0].tp, wide[0].tp) == (0, 1)
    outside = score_image([straight(400)], [straight(400)], frame_hw=(200, 200))
    assert outside == (CulaneCounts(0, 1, 1),)


def test_agreement_is_one_on_itself_and_falls_with_lost_lanes():
    a = LaneSet.from_lanes([straight(400), straight(900)], FRAME_HW)
    b = LaneSet.from_lanes([straight(400)], FRAME_HW)
    assert agreement([a, b], [a, b]).f1 == 1.0
    lost = agreement([b], [a])
    assert (lost.recall, lost.precision) == (0.5, 1.0)
    assert lost.f1 == pytest.approx(2 / 3)


def test_agreement_of_different_numbers_of_images_is_refused():
    lanes = LaneSet.from_lanes([straight(400)], FRAME_HW)
    with pytest.raises(ValueError, match="zip"):
        agreement([lanes], [lanes, lanes])


def test_mf1_is_the_mean_of_f1_over_the_thresholds_at_which_each_is_scored():
    lanes = [LaneSet.from_lanes([straight(x), straight(900)], FRAME_HW) for x in (404, 407, 440)]
    labels = [
        Label(str(i), LaneSet.from_lanes([straight(400), straight(900)], FRAME_HW))
        for i in range(len(lanes))
    ]
    found = score_labels(Metric.CULANE, labels, lanes)
    pairs = list(zip(lanes, (label.lanes for label in labels), strict=True))
    single = [counts.f1 for counts in score(pairs, MF1_IOUS)]
    assert found.mean_f1 == found.to_dict()["mf1"] == pytest.approx(np.mean(single), abs=1e-12)
    assert found.value == single[0] > single[-1]


def test_counts_add_up_and_their_shares_are_defined_everywhere():
    total = CulaneCounts(3, 1, 2) + CulaneCounts(1, 1, 0)
    assert total == CulaneCounts(4, 2, 2)
    assert (total.precision, total.recall, total.f1) == (4 / 6, 4 / 6, 8 / 12)
    assert CulaneCounts().f1 == 1.0
    assert (CulaneCounts(fp=2).precision, CulaneCounts(fp=2).recall, CulaneCounts(fp=2).f1) == (
        0.0,
        0.0,
        0.0,
    )
