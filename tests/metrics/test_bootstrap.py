import numpy as np
import pytest

from trt_lane.metrics.bootstrap import (
    accuracy_of_frames,
    drawn_frames,
    drawn_in_parts,
    f1_of_frames,
    interval,
    recall_of_frames,
)
from trt_lane.metrics.culane import CulaneCounts


@pytest.mark.parametrize("counts", [(3, 1, 2), (0, 0, 0), (0, 2, 0), (0, 0, 2), (5, 0, 0)])
def test_shares_are_those_of_the_scorer(counts):
    expected = CulaneCounts(*counts)
    assert f1_of_frames(np.array([counts])) == pytest.approx(expected.f1)
    assert recall_of_frames(np.array([counts])) == pytest.approx(expected.recall)


def test_counts_are_summed_over_frames_before_the_share():
    frames = np.array([[4, 0, 0], [0, 4, 4]])
    assert f1_of_frames(frames) == pytest.approx(0.5)
    assert f1_of_frames(np.stack([frames, frames[:1].repeat(2, 0)])) == pytest.approx([0.5, 1])


def test_accuracy_is_the_mean_over_frames():
    assert accuracy_of_frames(np.array([[0.5, 9, 9], [1.0, 0, 0]])) == 0.75


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    rng = np.random.default_rng(3)
    frames = np.zeros((400, 3))
    frames[:, 0] = rng.normal(0.9, 0.05, 400)
    low, high = interval(accuracy_of_frames(frames[drawn_frames(400)]))
    half = 1.96 * frames[:, 0].std() / 20
    # 1000 draws know a 2.5 % quantile to about 5 % of the half-width.
    assert (high - low) / 2 == pytest.approx(half, rel=0.12)
    assert (high + low) / 2 == pytest.approx(frames[:, 0].mean(), abs=half / 5)


def test_draws_are_the_same_each_time_and_stay_within_the_frames():
    first, second = drawn_frames(17), drawn_frames(17)
    assert np.array_equal(first, second)
    assert first.shape == (1000, 17)
    assert (first.min(), first.max()) == (0, 16)


def test_equal_frames_have_an_interval_of_no_width():
    frames = np.tile([0.75, 0, 0], (9, 1))
    assert interval(accuracy_of_frames(frames[drawn_frames(9)])) == (0.75, 0.75)


def test_draws_in_parts_are_the_same_draws():
    parts = list(drawn_in_parts(34_680, 130))
    assert len(parts) > 2 and max(map(len, parts)) < 130
    assert np.array_equal(np.concatenate(parts), drawn_frames(34_680, 130))
