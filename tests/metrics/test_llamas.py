"""LLAMAS' F1 against the official program's counts and against a plain way of counting."""

from __future__ import annotations

import json
from itertools import pairwise

import cv2
import numpy as np
import pytest
from made_label_files import made_llamas
from scipy.interpolate import splev, splprep
from scipy.optimize import linear_sum_assignment

from trt_lane.datasets.llamas_json import lanes_of, read_columns
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts
from trt_lane.metrics.llamas import FRAME_HW, match_image
from trt_lane.metrics.llamas_spline import spline_points

IOUS = (0.3, 0.5, 0.75)
ROWS = np.arange(300.0, 717)


def annotated(x):
    return np.stack([np.full_like(ROWS, x + 0.5), ROWS], axis=1)


def predicted(x):
    return annotated(x)[::-10]


def counts(pred, anno, iou=0.5):
    found = match_image(pred, anno).counts(iou)
    return found.tp, found.fp, found.fn


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """(pred, anno) of 40 images, annotations as the reader of labels gives them."""
    path = tmp_path_factory.mktemp("llamas") / "label.json"
    found = []
    for label, pred in made_llamas(40):
        path.write_text(json.dumps(label))
        found.append((pred, lanes_of(read_columns(path))))
    return found


# culane_metric/evaluate.py of karstenBehrendt/unsupervised_llamas gave these on the same labels and
# predictions; its columns of all annotations add up to 19571482.666.. over 32882 rows.
@pytest.mark.parametrize(
    ("iou", "official"), [(0.3, (58, 35, 56)), (0.5, (31, 62, 83)), (0.75, (5, 88, 109))]
)
def test_counts_equal_the_official_program(images, iou, official):
    total = sum((match_image(*image).counts(iou) for image in images), CulaneCounts())
    assert (total.tp, total.fp, total.fn) == official


def test_columns_equal_the_official_program(images):
    xs = np.concatenate([lane[:, 0] for _, anno in images for lane in anno])
    assert (len(xs), xs.sum()) == (32882, pytest.approx(19571482.66666667, abs=1e-6))


def plain_counts(pred, anno, iou):
    """Whole masks, a cv2.line per segment, scipy's spline and scipy's assignment."""

    def mask(points):
        image = np.zeros(FRAME_HW, np.uint8)
        pixels = np.trunc(points).astype(int).tolist()
        for a, b in pairwise(pixels):
            cv2.line(image, a, b, 1, 30)
        return image > 0

    def spline(lane):
        knots, _ = splprep(np.float64(lane).T, s=0, k=min(3, len(lane) - 1))
        return np.array(splev(np.linspace(0, 1, 50), knots)).T

    pred = [mask(spline(lane)) for lane in pred if len(lane) > 1]
    anno = [mask(lane[lane[:, 1] >= 300]) for lane in anno]
    ious = np.array([[(a & p).sum() / (a | p).sum() for p in pred] for a in anno])
    ious = ious.reshape(len(anno), len(pred))
    tp = int((ious[linear_sum_assignment(-ious)] > iou).sum())
    return tp, len(pred) - tp, len(anno) - tp


def test_counts_equal_a_plain_way_of_counting_image_by_image(images):
    for pred, anno in images[:12]:
        for iou in IOUS:
            assert counts(pred, anno, iou) == plain_counts(pred, anno, iou)


@pytest.mark.parametrize("points", [2, 3, 4, 5, 6, 30, 400])
def test_the_spline_is_scipys(points):
    rng = np.random.default_rng(points)
    lane = np.stack([600 + rng.normal(0, 30, points).cumsum(), np.linspace(716, 300, points)], 1)
    knots, _ = splprep(lane.T, s=0, k=min(3, points - 1))
    expected = np.array(splev(np.linspace(0, 1, 50), knots)).T
    assert np.abs(spline_points(lane) - expected).max() < 1e-8


@pytest.mark.parametrize(
    ("pred", "anno", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([predicted(400)], [], (0, 1, 0)),
        ([], [annotated(400)], (0, 0, 1)),
        ([predicted(400), predicted(900)], [annotated(900), annotated(400)], (2, 0, 0)),
        ([predicted(408)], [annotated(400)], (1, 0, 0)),  # 22 of 38 px shared
        ([predicted(412)], [annotated(400)], (0, 1, 1)),  # 18 of 42
        ([predicted(400), predicted(403)], [annotated(400)], (1, 1, 0)),
        ([predicted(400)[::-1]], [annotated(400)], (1, 0, 0)),
        ([predicted(400)[:1]], [annotated(400)], (0, 0, 1)),
        ([predicted(400)[[0, 0]]], [annotated(400)], (0, 1, 1)),
        ([predicted(400)[[0, 0, 9, 40, 40]]], [annotated(400)], (1, 0, 0)),
        ([predicted(9000)], [annotated(9000)], (0, 1, 1)),
        ([predicted(1e12)], [annotated(400)], (0, 1, 1)),
    ],
    ids=[
        *("none", "made up", "missed", "any order", "8 px beside", "12 px beside", "twice"),
        *("downwards", "a point", "a point twice", "doubled ends", "outside", "far outside"),
    ],
)
def test_edge_cases(pred, anno, expected):
    assert counts(pred, anno) == expected


def test_annotations_count_from_row_300_on():
    above = np.stack([np.full(200, 400.5), np.arange(100.0, 300)], axis=1)
    whole = np.concatenate([above, annotated(400)])
    assert match_image([predicted(403)], [whole]) == match_image([predicted(403)], [annotated(400)])
    assert counts([], [above]) == (0, 0, 0)
    longer = np.array([[400.5, 716.0], [400.5, 100]])  # a prediction is not cut: 217 rows too many
    assert match_image([longer], [whole]).ious[0] == pytest.approx(432 / 632, abs=0.01)


def test_lanes_of_another_frame_size_are_scaled_to_the_official_one():
    lanes = LaneSet.from_lanes([predicted(400), predicted(900)], FRAME_HW)
    anno = LaneSet.from_lanes([annotated(400)[::-1], annotated(900)[::-1]], FRAME_HW)
    for pred in (lanes, lanes.scaled_to((1434, 2552)), lanes.scaled_to((360, 640))):
        found = match_image(pred, anno)
        assert (found.predicted, found.annotated) == (2, 2)
        assert min(found.ious) > 0.9
