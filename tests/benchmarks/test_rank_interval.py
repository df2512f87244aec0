import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from benchmarks.rank_interval import critical_rank, p_value, ratio_interval


def test_p_equals_scipys_exact_test():
    rng = np.random.default_rng(0)
    for n, m in ((4, 4), (6, 6), (5, 9), (12, 12)):
        a, b = rng.normal(0, 1, n), rng.normal(0.5, 1, m)
        assert p_value(a, b) == pytest.approx(mannwhitneyu(a, b, method="exact").pvalue)


@pytest.mark.parametrize(("n", "rank"), [(3, 0), (4, 1), (5, 3), (6, 6), (8, 14)])
def test_ranks_are_those_of_the_tables(n, rank):
    # critical values 0, 2, 5, 13 of U for two-sided .05 (Hollander and Wolfe, table A.6), plus one
    assert critical_rank(n, n, 0.05) == rank


def test_interval_ends_where_the_test_begins_to_tell_the_samples_apart():
    rng = np.random.default_rng(4)
    base, new = np.exp(rng.normal(0, 0.1, 6)), np.exp(rng.normal(0.05, 0.1, 6))
    _, low, high = ratio_interval(base, new)
    for inside in (low * 1.0001, high * 0.9999):
        assert p_value(base * inside, new) > 0.05
    for outside in (low * 0.9999, high * 1.0001):
        assert p_value(base * outside, new) <= 0.05


def test_a_multiple_is_estimated_exactly():
    base = np.array([1.0, 1.1, 1.2, 0.9, 1.05, 0.95])
    estimate, low, high = ratio_interval(base, 2 * base)
    assert estimate == pytest.approx(2) and low < 2 < high


def test_too_few_values_have_no_interval():
    assert ratio_interval(np.ones(3), np.ones(3)) == (1.0, 0.0, np.inf)


def test_interval_holds_the_truth_in_95_of_100():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        _, low, high = ratio_interval(
            np.exp(rng.normal(0, 0.1, 6)), np.exp(rng.normal(0.2, 0.1, 6))
        )
        inside += low <= np.exp(0.2) <= high
    assert inside >= 0.93 * 400
