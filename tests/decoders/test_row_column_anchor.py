from dataclasses import replace

import numpy as np
import pytest
from official_cases import official_cases

from trt_lane.decoders.row_column_anchor import Refit, RowColumnAnchor

CULANE = RowColumnAnchor(
    (590, 1640), 72, 81, 200, 100, top=0.42, above_rows=72 / 2, above_columns=81 / 4
)
SMALL = RowColumnAnchor(
    (100, 200), rows=6, columns=5, row_cells=11, column_cells=11, top=0.5, above_rows=2
)


def empty(decoder=SMALL):
    heads = {name: np.zeros(shape, np.float32) for name, shape in decoder.head_shapes.items()}
    heads["exist_row"][0] = heads["exist_col"][0] = 9
    return heads


def with_row_lane(decoder=SMALL, cells=(5, 5, 5, 5, 5, 5), lane=1):
    heads = empty(decoder)
    for row, cell in enumerate(cells):
        heads["loc_row"][cell, row, lane] = 50
        heads["exist_row"][1, row, lane] = 18
    return heads


def with_column_lane(decoder=SMALL, cells=(5, 5, 5, 5, 5), lane=0):
    heads = empty(decoder)
    for column, cell in enumerate(cells):
        heads["loc_col"][cell, column, lane] = 50
        heads["exist_col"][1, column, lane] = 18
    return heads


def test_equals_the_official_postprocessing(shared):
    cases = official_cases(shared, "ufldv2")
    assert sum(len(lanes) for _, lanes in cases) > 15
    for given, expected in cases:
        found = CULANE(**{name: given[name][0] for name in CULANE.head_shapes})
        assert len(found) == len(expected)
        for points, lane in zip(found.lanes(), expected, strict=True):
            official = np.float64(lane["points"])  # rows downwards, columns rightwards
            if official[0, 1] < official[-1, 1]:
                official = official[::-1]
            assert points.shape == official.shape
            # int() cut the official points; 1e-3 covers float32 at a whole pixel.
            assert ((points - official > -1e-3) & (points - official < 1 + 1e-3)).all()


def test_row_lane_has_its_x_on_every_row_from_the_bottom():
    lanes = SMALL(**with_row_lane())
    assert lanes.points[0].tolist() == [[110, y] for y in (100, 90, 80, 70, 60, 50)]


def test_column_lane_has_its_y_on_every_column():
    lanes = SMALL(**with_column_lane(cells=(8, 7, 6, 5, 4)))
    expected = [[0, 85], [50, 75], [100, 65], [150, 55], [200, 45]]
    assert lanes.points[0] == pytest.approx(np.float32(expected))


def test_column_lane_that_falls_to_the_right_starts_at_the_right():
    lanes = SMALL(**with_column_lane(cells=(4, 5, 6, 7, 8)))
    assert lanes.points[0, :, 0].tolist() == [200, 150, 100, 50, 0]


def test_jitter_of_a_flat_lane_keeps_the_order_of_columns():
    lanes = SMALL(**with_column_lane(cells=(8, 6, 7, 5, 4)))
    assert lanes.points[0, :, 0].tolist() == [0, 50, 100, 150, 200]


def test_cells_outside_the_window_do_not_count():
    heads = with_row_lane()
    heads["loc_row"][8, :, 1] = 49.9  # three cells from the largest
    assert SMALL(**heads).points[0, 0, 0] == pytest.approx(110)
    assert replace(SMALL, window=3)(**heads).points[0, 0, 0] > 135


def test_window_ends_at_the_edge_of_the_grid():
    heads = with_row_lane(cells=(0,) * 6)
    heads["loc_row"][10, :, 1] = 49.9
    assert SMALL(**heads).points[0, 0].tolist() == [10, 100]
    heads = with_row_lane(cells=(10,) * 6)
    assert SMALL(**heads).points[0, 0, 0] == pytest.approx(210)  # official: half a cell outside


@pytest.mark.parametrize(("rows", "lanes"), [(2, 0), (3, 1)])
def test_lane_needs_more_rows_than_the_limit(rows, lanes):
    assert len(SMALL(**with_row_lane(cells=(5,) * rows))) == lanes


def test_outer_lanes_are_not_read_from_rows():
    assert len(SMALL(**with_row_lane(lane=0))) == 0
    assert len(SMALL(**with_column_lane(lane=1))) == 0


def test_tie_of_existence_is_no_point():
    heads = with_row_lane()
    heads["exist_row"][:, 0] = 9
    assert len(SMALL(**heads).lanes()[0]) == 5
    heads["exist_row"][1, 0, 1] = np.nextafter(np.float32(9), np.float32(10))
    assert len(SMALL(**heads).lanes()[0]) == 6


def test_score_is_the_mean_probability_of_existence():
    heads = with_row_lane(cells=(5,) * 4)
    heads["exist_row"][0, :4, 1] = 0
    heads["exist_row"][1, :4, 1] = np.log([9, 9, 9, 4])
    assert SMALL(**heads).scores.tolist() == pytest.approx([(0.9 * 3 + 0.8) / 4])


def test_row_lanes_come_before_column_lanes():
    heads = with_row_lane()
    heads |= {k: v for k, v in with_column_lane().items() if k.endswith("col")}
    lanes = SMALL(**heads)
    assert lanes.points[0, 0].tolist() == [110, 100]
    assert lanes.points[1, 0].tolist() == [0, 55]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("head", ["loc_row", "exist_row"])
def test_rows_that_are_not_finite_have_no_point(bad, head):
    heads = with_row_lane()
    heads[head][1, 0, 1] = bad
    assert SMALL(**heads).lanes()[0][:, 1].tolist() == [100, 90, 80, 70, 60]
    assert len(SMALL(**{k: np.full_like(v, bad) for k, v in heads.items()})) == 0


def test_huge_logits_do_not_overflow():
    heads = {k: np.where(v > 0, np.float32(3e38), -3e38) for k, v in with_row_lane().items()}
    heads["exist_row"][0] = -3e38
    lanes = SMALL(**heads)
    assert np.isfinite(lanes.lanes()[0]).all()
    assert lanes.scores.tolist() == [1]


def merged_decoder():
    return replace(SMALL, refit=Refit.MERGED, row_lanes=(0, 1, 2, 3), column_lanes=(0, 1, 2, 3))


def test_merged_lane_straight_up_is_fitted_along_its_height():
    lanes = merged_decoder()(**with_row_lane())
    assert len(lanes.points[0]) == 41
    assert lanes.points[0, :, 0] == pytest.approx(np.full(41, 110), abs=1e-3)
    assert lanes.points[0, [0, -1], 1].tolist() == [100, 50]


def test_merged_flat_lane_is_fitted_along_its_width():
    lanes = merged_decoder()(**with_column_lane())
    assert len(lanes.points[0]) == 36
    assert lanes.points[0, :, 1] == pytest.approx(np.full(36, 55), abs=1e-3)


def test_merged_lane_goes_through_rows_and_columns():
    heads = with_row_lane(lane=2)
    heads |= {k: v for k, v in with_column_lane(lane=2).items() if k.endswith("col")}
    lanes = merged_decoder()(**heads)
    assert len(lanes) == 1
    assert np.ptp(lanes.points[0, :, 0]) > 150  # neither set of points alone reaches that far


def test_two_points_make_no_parabola():
    decoder = replace(merged_decoder(), above_rows=1)
    assert len(decoder(**with_row_lane(cells=(5, 5)))) == 0


@pytest.mark.parametrize("name", list(SMALL.head_shapes))
def test_wrong_shape_states_the_expected_one(name):
    heads = empty()
    heads[name] = heads[name][None]
    with pytest.raises(ValueError, match=rf"{name} has shape \(1, .*; expected \("):
        SMALL(**heads)


@pytest.mark.parametrize(
    "change",
    [{"rows": 0}, {"row_cells": 1}, {"top": 1.0}, {"lanes": 3}, {"window": -1}, {"refit": "some"}],
)
def test_impossible_numbers_are_refused(change):
    with pytest.raises(ValueError):
        replace(SMALL, **change)
