import cv2
import numpy as np
import pytest

from trt_lane.decoders.lane_mask import LaneMask

DECODER = LaneMask(frame_hw=(120, 200), input_hw=(60, 100))


def heads(mask, margin=4.0):
    foreground = np.where(mask, np.float32(margin / 2), np.float32(-margin / 2))
    lane = np.stack([-foreground, foreground])
    return {"drivable": np.zeros_like(lane), "lane": lane}


def drawn(*lines, thickness=3):
    """A mask (60, 100) of line segments, each two (x, y) pixels."""
    mask = np.zeros(DECODER.input_hw, np.uint8)
    for start, end in lines:
        cv2.line(mask, start, end, 1, thickness)
    return mask.astype(bool)


def test_each_component_is_a_lane_along_its_centre():
    mask = drawn(((80, 50), (60, 5)))
    mask[10:56, 19:22] = True
    lanes = DECODER(**heads(mask))
    assert len(lanes) == 2
    left, right = lanes.lanes()
    assert left.tolist() == [[40, 2 * row] for row in range(55, 9, -3)]
    expected = 160 - (100 - right[:, 1]) * 20 / 45
    assert np.abs(right[:, 0] - expected).max() < 2.5


def test_points_go_upwards_every_few_rows():
    points = DECODER(**heads(drawn(((50, 59), (50, 0))))).lanes()[0]
    assert np.diff(points[:, 1]).tolist() == [-6] * 19


def test_lanes_that_meet_at_the_horizon_stay_two():
    lanes = DECODER(**heads(drawn(((10, 58), (50, 8)), ((90, 58), (50, 8)))))
    assert len(lanes) == 2
    left, right = lanes.lanes()
    assert left[0, 0] < 30 and right[0, 0] > 170
    # neither jumps to the other's side, as the mean of both runs of a row would
    assert (left[:, 0] < 104).all() and (right[:, 0] > 96).all()


def test_lane_that_forks_upwards_goes_on_once():
    lanes = DECODER(**heads(drawn(((50, 58), (50, 30)), ((50, 30), (20, 5)), ((50, 30), (80, 5)))))
    assert sorted(len(lane) for lane in lanes.lanes())[-1] > 15
    assert len(lanes) == 2


def test_small_and_flat_components_are_noise():
    assert len(DECODER(**heads(drawn(((50, 50), (50, 44)))))) == 0
    assert len(DECODER(**heads(drawn(((5, 50), (95, 46)))))) == 0
    assert len(DECODER(**heads(drawn(((50, 50), (50, 41)), thickness=1)))) == 0


def test_more_lines_than_allowed_drop_the_shortest():
    mask = drawn(*(((5 + 10 * i, 58), (5 + 10 * i, 40 - 4 * i)) for i in range(9)))
    lanes = DECODER(**heads(mask))
    assert len(lanes) == 8
    assert lanes.points[:, 0, 0].min() == 30


def test_empty_mask_has_no_lanes():
    lanes = DECODER(**heads(np.zeros(DECODER.input_hw, bool)))
    assert len(lanes) == 0 and lanes.frame_hw == (120, 200)


def test_tie_between_background_and_lane_is_background():
    zeros = np.zeros((2, 60, 100), np.float32)
    assert len(DECODER(drivable=zeros, lane=zeros)) == 0
    barely = zeros.copy()
    barely[1, :, 40:45] = 1e-9  # argmax says lane, the float32 probability is 0.5
    assert len(DECODER(drivable=zeros, lane=barely)) == 1


def test_score_is_the_mean_probability():
    lanes = DECODER(**heads(drawn(((20, 55), (20, 10))), margin=3.0))
    assert lanes.scores[0] == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-5)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_unsound_numbers_give_no_lanes_there(poison):
    given = heads(drawn(((20, 55), (20, 10)), ((80, 55), (80, 10))))
    given["lane"][0, :, :50] = poison
    given["drivable"][:] = poison
    lanes = DECODER(**given)
    assert len(lanes) == 1 and lanes.points[0, 0, 0] == 160
    given["lane"][:] = poison
    assert len(DECODER(**given)) == 0


def test_huge_numbers_are_sure():
    lanes = DECODER(**heads(drawn(((20, 55), (20, 10))), margin=6e38))
    assert lanes.scores.tolist() == [1]


@pytest.mark.parametrize("head", ["drivable", "lane"])
@pytest.mark.parametrize("shape", [(2, 100, 60), (60, 100), (3, 60, 100), (1, 2, 60, 100)])
def test_wrong_shape_is_an_error(head, shape):
    given = heads(np.zeros(DECODER.input_hw, bool))
    given[head] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=f"{head} has shape"):
        DECODER(**given)


@pytest.mark.parametrize(
    "numbers", [{"threshold": 1.0}, {"min_rows": 0}, {"row_step": 0}, {"min_area_px": -1}]
)
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError):
        LaneMask((120, 200), (60, 100), **numbers)
