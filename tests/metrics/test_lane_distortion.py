"""Identities of the Lane Distortion Score."""

from __future__ import annotations

import numpy as np
import pytest

from trt_lane.lanes import LaneSet
from trt_lane.metrics.lane_distortion import (
    common_rows,
    lane_distance,
    lane_distortion_score,
    mean_lane_distortion_score,
    tau_px,
)

HW = (590, 1640)
NAN = float("nan")


def lanes_at(*xs: float, bottom: float = 590, top: float = 300, hw=HW) -> LaneSet:
    y = np.arange(bottom, top - 1, -10.0)
    return LaneSet.from_lanes([np.stack([x + 0.3 * (590 - y), y], axis=1) for x in xs], hw)


def random_lanes(rng: np.random.Generator) -> LaneSet:
    lanes = []
    for _ in range(rng.integers(0, 5)):
        y = np.arange(590, rng.integers(200, 580), -10.0)
        lanes.append(np.stack([rng.uniform(0, 1640) + rng.uniform(-2, 2) * (590 - y), y], axis=1))
    return LaneSet.from_lanes(lanes, HW)


def test_score_is_zero_on_itself():
    rng = np.random.default_rng(1)
    for _ in range(20):
        lanes = random_lanes(rng)
        assert lane_distortion_score(lanes, lanes) == 0.0


def test_score_is_symmetric_and_bounded_by_tau():
    rng = np.random.default_rng(2)
    for _ in range(50):
        a, b = random_lanes(rng), random_lanes(rng)
        score = lane_distortion_score(a, b)
        assert score == pytest.approx(lane_distortion_score(b, a))
        assert 0 <= score <= tau_px(HW)


def test_order_of_lanes_does_not_matter():
    assert lane_distortion_score(lanes_at(100, 500, 900), lanes_at(900, 100, 500)) == 0.0


def test_shifted_lane_costs_its_shift_up_to_tau():
    assert lane_distortion_score(lanes_at(400), lanes_at(407)) == pytest.approx(7, abs=1e-3)
    assert lane_distortion_score(lanes_at(400), lanes_at(900)) == pytest.approx(30)


def test_unmatched_lane_costs_tau():
    empty = LaneSet.from_lanes([], HW)
    assert lane_distortion_score(lanes_at(400), empty) == 30
    assert lane_distortion_score(lanes_at(400, 900), lanes_at(400)) == 15


def test_rows_that_only_one_lane_has_cost_tau():
    long, short = lanes_at(400, top=300), lanes_at(400, top=500)  # 30 and 10 rows
    assert lane_distortion_score(long, short) == pytest.approx(30 * 20 / 30)


def test_matching_minimises_the_total_over_the_greedy_choice():
    # Greedy pairs 410 with 409 (1 px) and leaves 400 with 420 (20 px): 21 px against 19.
    score = lane_distortion_score(lanes_at(400, 410), lanes_at(409, 420))
    assert score == pytest.approx((9 + 10) / 2, abs=1e-3)


def test_tau_follows_the_frame_width():
    small = lane_distortion_score(lanes_at(400, hw=(590, 820)), LaneSet.from_lanes([], (590, 820)))
    assert small == 15


def test_lanes_of_another_frame_size_are_scaled_first():
    lanes = lanes_at(400, 900)
    assert lane_distortion_score(lanes, lanes.scaled_to((295, 820))) == pytest.approx(0, abs=1e-3)


def test_lane_distance_by_hand():
    a, b = np.array([1.0, 2.0, NAN, NAN]), np.array([4.0, NAN, 50.0, NAN])
    assert lane_distance(a, b, tau=10.0) == pytest.approx((3 + 10 + 10) / 3)
    assert lane_distance(np.full(4, NAN), np.full(4, NAN), tau=10.0) == 0.0


def test_common_rows_are_every_ten_pixels_with_both_edges():
    rows = common_rows(HW)
    assert rows[0] == 0
    assert rows[-1] == 590
    assert np.all(np.diff(rows) == 10)


def test_mean_is_over_images():
    empty = LaneSet.from_lanes([], HW)
    assert mean_lane_distortion_score([empty, lanes_at(400)], [empty, empty]) == 15
    assert mean_lane_distortion_score([], []) == 0
    with pytest.raises(ValueError, match="zip"):
        mean_lane_distortion_score([empty], [])
