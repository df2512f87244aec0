import numpy as np
import pytest

from trt_lane.metrics.bootstrap import drawn_frames, f1_of_frames, interval
from trt_lane.metrics.culane import CulaneMatches
from trt_lane.metrics.points import points_to
from trt_lane.metrics.report import DatasetScore
from trt_lane.metrics.tusimple import TusimpleScore
from trt_lane.model import Metric


def drawn_score(ious_of_images):
    matches = tuple(CulaneMatches(tuple(ious), 3, 3) for ious in ious_of_images)
    return DatasetScore(Metric.CULANE, tuple(m.counts() for m in matches), {}, matches)


@pytest.fixture
def pair():
    rng = np.random.default_rng(5)
    ious = rng.uniform(0.3, 1, (60, 3))
    return drawn_score(ious + rng.normal(0, 0.05, ious.shape)), drawn_score(ious)


def test_a_difference_is_that_of_the_two_scores(pair):
    found, reference = pair
    points = points_to(found, reference)
    assert points["f1"].value == pytest.approx(100 * (found.value - reference.value))
    assert points["mf1"].value == pytest.approx(100 * (found.mean_f1 - reference.mean_f1))


def test_the_interval_draws_the_same_images_for_both(pair):
    rows = [np.array([(c.tp, c.fp, c.fn) for c in score.per_image]) for score in pair]
    drawn = drawn_frames(60)
    low, high = interval(100 * (f1_of_frames(rows[0][drawn]) - f1_of_frames(rows[1][drawn])))
    assert points_to(*pair)["f1"].low == pytest.approx(low)
    assert points_to(*pair)["f1"].high == pytest.approx(high)


def test_a_form_against_itself_differs_by_nothing_in_any_draw(pair):
    for points in points_to(pair[0], pair[0]).values():
        assert (points.value, points.low, points.high) == (0, 0, 0)


def test_many_thresholds_are_surer_than_one(pair):
    points = points_to(*pair)
    widths = {name: p.high - p.low for name, p in points.items()}
    assert 0 < widths["mf1"] < widths["f1"]


def test_accuracies_are_compared_in_points():
    scores = [
        DatasetScore(Metric.TUSIMPLE, tuple(TusimpleScore(a, 0.0, 0.0) for a in values))
        for values in ([0.9, 0.8, 0.7], [0.95, 0.85, 0.75])
    ]
    points = points_to(*scores)["accuracy"]
    assert [points.value, points.low, points.high] == pytest.approx([-5, -5, -5])


def test_no_labelled_image_gives_no_figure():
    empty = DatasetScore(Metric.CULANE, ())
    assert points_to(empty, empty) == {}


def test_scores_of_other_images_are_refused(pair):
    with pytest.raises(ValueError, match="60 images by culane against 1 by culane"):
        points_to(pair[0], drawn_score([[0.9]]))
