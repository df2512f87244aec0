import numpy as np
import pytest
from official_cases import official_cases

from trt_lane.decoders.row_anchor import RowAnchor

# cfzd/Ultra-Fast-Lane-Detection 353df10, data/constant.py and demo.py.
ANCHORS = (121, 131, 141, 150, 160, 170, 180, 189, 199, 209, 219, 228, 238, 248, 258, 267, 277, 287)
CULANE = RowAnchor(
    frame_hw=(590, 1640),
    rows_px=tuple(590 * a / 288 - 1 for a in ANCHORS),
    cells=200,
    lanes=4,
    cell_px=799 / 199 * 1640 / 800,
    cell_offset=1.0,
    x_offset_px=-1.0,
)
SMALL = RowAnchor((100, 200), (20.0, 40.0, 60.0, 80.0), cells=10, lanes=2, cell_px=20.0)


def no_lanes(decoder=SMALL):
    logits = np.zeros(decoder.head_shape, np.float32)
    logits[-1] = 20
    return logits


def with_lane(cell=3, rows=4, lane=0, peak=40):
    logits = no_lanes()
    logits[cell, :rows, lane] = peak
    return logits


def test_equals_the_official_postprocessing(shared):
    cases = official_cases(shared, "ufld")
    assert sum(len(lanes) for _, lanes in cases) > 20
    for given, expected in cases:
        location, _ = CULANE.locate(given["logits"])
        found = CULANE(**given)
        assert len(found) == len(expected)
        for points, lane in zip(found.lanes(), expected, strict=True):
            cells = location[::-1, lane["lane"]]
            cells = cells[np.isfinite(cells)]
            assert np.abs(cells - lane["location_in_cells"]).max() < 1e-4
            # The official int() runs before the -1; 1e-3 covers float32 at a whole pixel.
            official = np.float64(lane["points"])
            assert points.shape == official.shape
            assert ((points - official > -1e-3) & (points - official < 1 + 1e-3)).all()


def test_lane_goes_from_the_bottom_upwards():
    lanes = SMALL(logits=with_lane(cell=3))
    assert lanes.points[0].tolist() == [[70, 80], [70, 60], [70, 40], [70, 20]]


def test_location_lies_between_two_equally_likely_cells():
    logits = with_lane(cell=3)
    logits[4] = logits[3]
    assert SMALL(logits=logits).points[0, 0, 0] == pytest.approx(80)


@pytest.mark.parametrize(("rows", "lanes"), [(0, 0), (2, 0), (3, 1)])
def test_lane_needs_three_points(rows, lanes):
    assert len(SMALL(logits=with_lane(rows=rows))) == lanes


def test_tie_with_no_lane_is_a_point_as_in_the_official_argmax():
    assert len(SMALL(logits=with_lane(peak=20))) == 1


def test_score_is_the_mean_probability_of_a_lane():
    logits = np.full(SMALL.head_shape, -100, np.float32)
    logits[5, :, 1] = np.log([9, 9, 9, 4])  # against exp(0) of no lane
    logits[-1] = 0
    lanes = SMALL(logits=logits)
    assert lanes.scores.tolist() == pytest.approx([(0.9 * 3 + 0.8) / 4])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_have_no_point(bad):
    logits = with_lane()
    logits[7, 0, 0] = bad
    lanes = SMALL(logits=logits)
    assert lanes.points[0, :3].tolist() == [[70, 80], [70, 60], [70, 40]]
    assert np.isnan(lanes.points[0, 3]).all()
    assert len(SMALL(logits=np.full_like(logits, bad))) == 0


def test_huge_logits_do_not_overflow():
    lanes = SMALL(logits=with_lane(peak=3e38))
    assert np.isfinite(lanes.points).all()
    assert lanes.scores.tolist() == [1]


def test_wrong_shape_states_the_expected_one():
    with pytest.raises(ValueError, match=r"\(1, 11, 4, 2\); expected \(11, 4, 2\)"):
        SMALL(logits=np.zeros((1, 11, 4, 2), np.float32))


@pytest.mark.parametrize("change", [{"rows_px": ()}, {"cells": 0}, {"cell_px": -1.0}])
def test_impossible_numbers_are_refused(change):
    numbers = {"frame_hw": (9, 9), "rows_px": (1.0,), "cells": 1, "lanes": 1, "cell_px": 1.0}
    with pytest.raises(ValueError):
        RowAnchor(**{**numbers, **change})
