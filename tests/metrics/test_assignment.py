"""Matching against exhaustive search and the official evaluator's quirks."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from trt_lane.metrics.assignment import match_cheapest, match_heaviest


def best_by_search(weights: np.ndarray) -> float:
    if weights.shape[0] > weights.shape[1]:
        weights = weights.T
    rows, columns = weights.shape
    return max(
        sum(weights[i, j] for i, j in enumerate(order))
        for order in permutations(range(columns), rows)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 5), (5, 3), (5, 5), (2, 6)])
def test_matching_is_as_heavy_as_the_best_of_all(shape):
    rng = np.random.default_rng(shape)
    for _ in range(20):
        weights = rng.normal(size=shape) * 30
        columns = match_heaviest(weights)
        used = [j for j in columns if j >= 0]
        assert len(set(used)) == len(used) == min(shape)
        total = sum(weights[i, j] for i, j in enumerate(columns) if j >= 0)
        assert total == pytest.approx(best_by_search(weights))
        cheapest = match_cheapest(weights)
        total = sum(weights[i, j] for i, j in enumerate(cheapest) if j >= 0)
        assert total == pytest.approx(-best_by_search(-weights))


def test_tolerance_costs_at_most_itself_per_pair():
    rng = np.random.default_rng(5)
    for _ in range(50):
        weights = rng.uniform(size=(4, 5))
        columns = match_heaviest(weights, tolerance=0.01)
        total = sum(weights[i, j] for i, j in enumerate(columns))
        assert best_by_search(weights) - total <= 4 * 0.01


def test_near_ties_go_to_the_first_column():
    assert match_heaviest(np.array([[0.695, 0.7]]), tolerance=1e-2) == [0]
    assert match_heaviest(np.array([[0.695, 0.7]])) == [1]


def test_unmatchable_rows_have_no_column():
    nan = float("nan")
    assert match_heaviest(np.array([[0.5, nan], [nan, nan]])) == [0, -1]
    assert match_heaviest(np.array([[nan]])) == [-1]


def test_empty_sides_match_nothing():
    assert match_heaviest(np.zeros((0, 3))) == []
    assert match_heaviest(np.zeros((2, 0))) == [-1, -1]
