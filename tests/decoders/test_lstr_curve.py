from dataclasses import replace

import numpy as np
import pytest

from trt_lane.decoders.lstr_curve import LstrCurve

DECODER = LstrCurve((100, 200), (20, 40, 60, 80, 99), queries=3, classes=2)


def heads(decoder=DECODER, lane=(0,), curve=(0.3, 0.9, 0, -1, 0, 0.25, 0.5, 0.0)):
    """All queries say the curve (by default x = 0.25 + y / 2); those in `lane` are lanes."""
    logits = np.zeros((decoder.queries, decoder.classes), np.float32)
    logits[:, 0] = 1
    logits[list(lane), decoder.lane_class] = 3
    return {
        "pred_logits": logits,
        "pred_curves": np.tile(np.float32(curve), (decoder.queries, 1)),
    }


def test_curve_is_sampled_between_its_ends_from_the_bottom_upwards():
    lanes = DECODER(**heads())
    assert len(lanes) == 1
    assert lanes.lanes()[0] == pytest.approx(np.array([[130, 80], [110, 60], [90, 40]]))


def test_ends_may_come_in_either_order():
    lanes = DECODER(**heads(curve=(0.9, 0.3, 0, -1, 0, 0.25, 0.5, 0.0)))
    assert lanes.lanes()[0][:, 1].tolist() == [80, 60, 40]


def test_culane_lanes_go_on_to_the_bottom():
    lanes = replace(DECODER, to_bottom=True)(**heads())
    assert lanes.lanes()[0][:, 1].tolist() == [99, 80, 60, 40]


def test_every_curve_number_has_its_place_in_the_formula():
    k, f, m, n, b, b2 = 0.02, 0.1, 0.03, 0.2, 0.4, 0.05
    lanes = DECODER(**heads(curve=(0, 1, k, f, m, n, b, b2)))
    for x, y_px in lanes.lanes()[0]:
        y = y_px / 100
        # liuruijin17/LSTR, db/tusimple.py, pred2lanes.
        assert x == pytest.approx(200 * (k / (y - f) ** 2 + m / (y - f) + n + b * y - b2))


def test_point_outside_the_frame_or_at_the_vanishing_line_is_absent():
    outside = DECODER(**heads(curve=(0, 1, 0, -1, 0, -0.3, 1.0, 0.0)))  # x = y - 0.3
    assert outside.lanes()[0][:, 1].tolist() == [99, 80, 60, 40]
    vanishing = DECODER(**heads(curve=(0, 1, 0, 0.6, 0.01, 0.5, 0.0, 0.0)))
    assert 60 not in vanishing.lanes()[0][:, 1]
    assert len(vanishing.lanes()[0]) == 4


def test_lane_needs_two_points():
    assert len(DECODER(**heads(curve=(0.5, 0.7, 0, -1, 0, 0.25, 0.5, 0.0)))) == 0
    assert len(DECODER(**heads(curve=(0.5, 0.8, 0, -1, 0, 0.25, 0.5, 0.0)))) == 1


@pytest.mark.parametrize("lane", [(), (1,), (0, 2), (0, 1, 2)])
def test_lanes_are_the_queries_whose_largest_class_is_lane(lane):
    lanes = DECODER(**heads(lane=lane))
    assert lanes.scores.tolist() == pytest.approx([1 / (1 + np.exp(-2))] * len(lane))


def test_tie_is_no_lane_as_in_the_official_argmax():
    tied = heads()
    tied["pred_logits"][0] = 1
    assert len(DECODER(**tied)) == 0


def test_third_class_is_no_lane_on_culane():
    decoder = replace(DECODER, classes=3)
    crowded = heads(decoder, lane=(0, 1))
    crowded["pred_logits"][1, 2] = 9
    assert len(decoder(**crowded)) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("head", ["pred_logits", "pred_curves"])
def test_query_that_is_not_finite_is_no_lane(head, bad):
    broken = heads(lane=(0, 1, 2))
    broken[head][1, 0] = bad
    lanes = DECODER(**broken)
    assert len(lanes) == 2
    broken[head][:] = bad
    assert len(DECODER(**broken)) == 0


def test_huge_numbers_give_no_points_and_no_warning():
    with np.errstate(all="raise"):
        assert len(DECODER(**heads(curve=(0, 1, 3e38, 0.5, 3e38, 3e38, 3e38, -3e38)))) == 0


@pytest.mark.parametrize("head", ["pred_logits", "pred_curves"])
def test_wrong_shape_states_the_expected_one(head):
    wrong = heads()
    wrong[head] = wrong[head][None]
    with pytest.raises(ValueError, match=rf"{head} has shape \(1, 3, .\); expected \(3, .\)"):
        DECODER(**wrong)


@pytest.mark.parametrize(
    "change", [{"rows_px": ()}, {"queries": 0}, {"lane_class": 2}, {"rows_px": (np.nan,)}]
)
def test_impossible_numbers_are_refused(change):
    with pytest.raises(ValueError):
        replace(DECODER, **change)
