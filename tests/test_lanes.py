import numpy as np
import pytest

from trt_lane.lanes import LaneSet

LANES = LaneSet.from_lanes([[(10, 90), (20, 50), (40, 10)], [(70, 80), (60, 40)]], (100, 100))


def test_lanes_of_different_lengths_are_padded_with_nan():
    assert LANES.points.shape == (2, 3, 2)
    assert np.isnan(LANES.points[1, 2]).all()
    assert [len(lane) for lane in LANES.lanes()] == [3, 2]
    assert LANES.points.dtype == LANES.scores.dtype == np.float32


def test_no_lanes_is_an_empty_set():
    empty = LaneSet.from_lanes([], (100, 100))
    assert len(empty) == 0
    assert empty.lanes() == []
    assert empty.at_rows(np.arange(5)).shape == (0, 5)
    assert empty.scaled_to((50, 50)).points.shape == (0, 0, 2)


def test_columns_at_rows_are_linear_and_absent_outside_the_lane():
    columns = LANES.at_rows(np.array([10, 95, 30, 70, 5]))
    np.testing.assert_allclose(columns[0], [40, np.nan, 30, 15, np.nan])
    np.testing.assert_allclose(columns[1], [np.nan, np.nan, np.nan, 67.5, np.nan])


def test_a_lane_of_fewer_than_two_points_has_no_columns():
    lanes = LaneSet.from_lanes([[(5, 5)], []], (10, 10))
    assert np.isnan(lanes.at_rows(np.array([5, 6]))).all()


def test_a_point_with_one_absent_coordinate_is_absent():
    lanes = LaneSet(np.array([[[1, 2], [np.nan, 3], [4, np.inf]]]), np.ones(1), (10, 10))
    np.testing.assert_array_equal(lanes.lanes()[0], [[1, 2]])


def test_scaling_to_another_size_and_back_changes_nothing():
    scaled = LANES.scaled_to((37, 211))
    np.testing.assert_allclose(scaled.points[0, 0], [21.1, 33.3], rtol=1e-6)
    assert scaled.frame_hw == (37, 211)
    np.testing.assert_allclose(scaled.scaled_to((100, 100)).points, LANES.points, rtol=1e-6)


@pytest.mark.parametrize(
    ("points", "scores"),
    [
        (np.zeros((2, 3)), np.ones(2)),
        (np.zeros((2, 3, 3)), np.ones(2)),
        (np.zeros((2, 3, 2)), np.ones(3)),
        (np.zeros((2, 3, 2)), np.ones((2, 1))),
    ],
)
def test_arrays_of_another_shape_are_refused(points, scores):
    with pytest.raises(ValueError, match="expected"):
        LaneSet(points, scores, (10, 10))


def test_a_lane_that_is_not_made_of_pairs_is_refused():
    with pytest.raises(ValueError, match="expected"):
        LaneSet.from_lanes([np.zeros((4, 3))], (10, 10))


def test_drawing_leaves_the_frame_and_marks_the_lane():
    frame = np.zeros((100, 100, 3), np.uint8)
    drawn = LANES.draw(frame, colour=(1, 2, 255), thickness=3)
    assert not frame.any()
    assert drawn[50, 20, 2] == 255
    assert not drawn[:, 90:].any()


def test_drawing_scales_to_the_frame_and_takes_lanes_without_points_and_far_outside():
    lanes = LaneSet.from_lanes([[], [(5, 5)], [(1e12, -1e12), (50, 50)]], (100, 100))
    lanes.draw(np.zeros((50, 50, 3), np.uint8))
    drawn = LANES.draw(np.zeros((200, 200, 3), np.uint8), colour=(255, 255, 255))
    assert drawn[100, 40].all()
