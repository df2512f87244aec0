import pytest
from made_cells import made_cell

from benchmarks.quant_rows import mean_points, row

FLOATS = [[0.9, 0, 0], [0.8, 0, 0], [1.0, 0, 0], [0.7, 0, 0]]
WORSE = [[a - 0.1, 0, 0] for a, _, _ in FLOATS]


def test_a_loss_that_is_the_same_on_every_frame_has_no_width_though_the_score_has():
    figures = row([made_cell(WORSE, FLOATS)])
    assert figures["points_to_float"] == pytest.approx(-10)
    assert figures["points_interval"] == pytest.approx([-10, -10])
    low, high = figures["interval"]
    assert low < figures["value"] < high
    assert figures["value"] == pytest.approx(0.75)
    assert figures["spread"] is None


def test_mean_and_spread_are_over_seeds_and_costs_over_all():
    cells = [
        made_cell(FLOATS, FLOATS, seed=0, seconds=2.0, peak_memory_bytes=5),
        made_cell(WORSE, FLOATS, seed=1, seconds=4.0, peak_memory_bytes=9, resumed=True),
    ]
    figures = row(cells)
    assert figures["value"] == pytest.approx(0.80)
    assert figures["spread"] == pytest.approx(0.1 / 2**0.5)
    assert figures["seeds"] == [0, 1]
    assert (figures["seconds"], figures["peak_memory_bytes"]) == (3.0, 9)
    assert figures["resumed"]


def test_culane_rows_hold_f1_and_recall():
    figures = row([made_cell([[1, 1, 0], [1, 0, 1]], [[2, 0, 0], [2, 0, 0]], "culane")])
    assert figures["metric"] == "F1"
    assert figures["value"] == pytest.approx(4 / 6)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["float"] == figures["float_recall"] == 1


def test_without_labels_agreement_with_float_ranks():
    figures = row([made_cell([[0, 0, 0]] * 3, [[0, 0, 0]] * 3, None)])
    assert figures["metric"] == "agreement F1"
    assert figures["value"] == pytest.approx(0.5)
    assert figures["float"] == 1
    assert "recall" not in figures


def test_the_mean_over_models_leaves_out_methods_that_failed_on_one():
    rows = [
        {"model": "a", "method": "x", "points_to_float": -1.0},
        {"model": "b", "method": "x", "points_to_float": -2.0},
        {"model": "a", "method": "y", "points_to_float": -0.1},
        {"model": "b", "method": "y", "failed": "no memory"},
        {"model": "a", "method": "z", "points_to_float": 0.0},
        {"model": "b", "method": "z", "points_to_float": -1.0},
    ]
    assert mean_points(rows) == {"z": -0.5, "x": -1.5}
    assert list(mean_points(rows)) == ["z", "x"]
