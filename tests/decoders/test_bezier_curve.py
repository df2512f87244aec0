import numpy as np
import pytest
from official_cases import official_cases

from trt_lane.decoders.bezier_curve import BezierCurve

CULANE = BezierCurve(frame_hw=(590, 1640), columns=50)
# pytorch-auto-drive 137e63a, configs/lane_detection/bezierlanenet/resnet18_tusimple_aug1b.py
TUSIMPLE = BezierCurve(
    frame_hw=(720, 1280),
    columns=40,
    threshold=0.5,
    max_lanes=5,
    samples=720,
    rows_px=tuple(range(160, 711, 10)),
)
STRAIGHT = np.float32([[0.2, 1.0], [0.3, 0.8], [0.4, 0.6], [0.5, 0.4]])


def heads(decoder, lanes):
    """Logits and curves: (column, logit) or (column, logit, control points)."""
    logits = np.full(decoder.columns, -9, np.float32)
    curves = np.zeros((decoder.columns, 4, 2), np.float32)
    for column, logit, *control in lanes:
        logits[column] = logit
        curves[column] = control[0] if control else STRAIGHT
    return {"logits": logits, "curves": curves}


def test_equals_the_official_postprocessing(shared):
    cases = official_cases(shared, "bezier")
    assert sum(len(lanes) for _, lanes in cases) > 20
    for given, expected in cases:
        found = CULANE(**{name: value[0] for name, value in given.items()})
        assert len(found) == len(expected)
        for points, lane in zip(found.lanes(), expected, strict=True):
            official = np.float64(lane["points"])
            assert points.shape == official.shape
            assert np.abs(points - official).max() < 1e-3  # float32 pixels up to 2000


def test_curve_ends_are_the_outer_control_points():
    lanes = CULANE(**heads(CULANE, [(7, 5)]))
    assert lanes.points.shape == (1, 50, 2)
    assert lanes.points[0, 0] == pytest.approx([0.2 * 1640, 590], rel=1e-5)
    assert lanes.points[0, -1] == pytest.approx([0.5 * 1640, 0.4 * 590], rel=1e-5)
    assert lanes.scores[0] == pytest.approx(1 / (1 + np.exp(-5)))


def test_curve_that_runs_downwards_is_turned_around():
    lanes = CULANE(**heads(CULANE, [(7, 5, STRAIGHT[::-1])]))
    assert (np.diff(lanes.points[0, :, 1]) < 0).all()


def test_neighbour_within_the_window_stands_back():
    lanes = CULANE(**heads(CULANE, [(10, 5), (14, 6), (19, 4)]))
    assert lanes.scores == pytest.approx(1 / (1 + np.exp([-6, -4])))


def test_of_equal_neighbours_the_leftmost_stands():
    shifted = STRAIGHT + np.float32([0.1, 0])
    lanes = CULANE(**heads(CULANE, [(10, 5), (12, 5, shifted)]))
    assert len(lanes) == 1
    assert lanes.points[0, 0, 0] == pytest.approx(0.2 * 1640, rel=1e-5)


def test_window_reaches_over_neither_edge():
    assert len(CULANE(**heads(CULANE, [(0, 5), (49, 5)]))) == 2


def test_threshold_is_not_reached_at_the_threshold():
    decoder = BezierCurve((590, 1640), 50, threshold=0.5)
    assert len(decoder(**heads(decoder, [(3, 0)]))) == 0
    assert len(decoder(**heads(decoder, [(3, 1e-3)]))) == 1


def test_least_certain_lane_goes_when_there_are_too_many():
    lanes = CULANE(**heads(CULANE, [(0, 5), (10, 4), (20, 6), (30, 7), (40, 8)]))
    assert lanes.scores == pytest.approx(1 / (1 + np.exp([-5, -6, -7, -8])), rel=1e-5)
    lanes = CULANE(**heads(CULANE, [(0, 4), (10, 4), (20, 6), (30, 7), (40, 8)]))
    assert len(lanes) == 3  # both of the tied ones go, as officially


def test_rows_take_the_nearest_sample():
    lanes = TUSIMPLE(**heads(TUSIMPLE, [(20, 3)]))
    points = lanes.lanes()[0]
    assert points[:, 1].tolist() == list(range(710, 280, -10))  # the curve ends at 0.4 * 720 = 288
    along = 0.2 + 0.3 * (720 - points[:, 1]) / (0.6 * 720)
    assert np.abs(points[:, 0] / 1280 - along).max() < 1e-3


def test_rows_outside_the_frames_sides_have_no_point():
    steep = np.float32([[-0.2, 1.0], [0.1, 0.8], [0.4, 0.6], [0.7, 0.4]])
    points = TUSIMPLE(**heads(TUSIMPLE, [(20, 3, steep)])).lanes()[0]
    assert points[:, 0].min() >= 0
    assert points[0, 1] < 640


def test_curve_that_meets_no_row_is_no_lane():
    flat = np.float32([[0.2, 0.1], [0.3, 0.1], [0.4, 0.1], [0.5, 0.1]])
    assert len(TUSIMPLE(**heads(TUSIMPLE, [(20, 3, flat)]))) == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("head", ["logits", "curves"])
def test_unsound_numbers_give_no_lanes_there(poison, head):
    given = heads(CULANE, [(10, 5), (14, 6), (30, 4)])
    given[head][14] = poison
    # without column 14 its neighbour is a lane
    assert CULANE(**given).scores == pytest.approx(1 / (1 + np.exp([-5, -4])), rel=1e-5)
    given[head][:] = poison
    assert len(CULANE(**given)) == 0


def test_huge_control_points_are_no_points():
    lanes = CULANE(**heads(CULANE, [(10, 5, np.full((4, 2), 3e38, np.float32))]))
    assert len(lanes) == 0


@pytest.mark.parametrize(
    ("logits", "curves"),
    [((49,), (50, 4, 2)), ((1, 50), (50, 4, 2)), ((50,), (50, 8)), ((50,), (50, 2, 4))],
)
def test_wrong_shape_is_an_error(logits, curves):
    with pytest.raises(ValueError, match="expected"):
        CULANE(logits=np.zeros(logits, np.float32), curves=np.zeros(curves, np.float32))


@pytest.mark.parametrize(
    "numbers", [{"columns": 0}, {"window": 4}, {"samples": 1}, {"rows_px": (np.nan,)}]
)
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError):
        BezierCurve(**{"frame_hw": (590, 1640), "columns": 50, **numbers})
