"""Ratio of two small samples with the interval that the Mann-Whitney test leaves (Hodges-Lehmann).

The interval holds every factor by which one sample could be scaled without the test telling the two
apart, so that test and interval never disagree. Source: Hollander, Wolfe, Chicken, Nonparametric
Statistical Methods, 3rd edition, sections 4.2 and 4.3.
"""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np

SIGNIFICANCE = 0.05


def ratio_interval(
    base: np.ndarray, new: np.ndarray, significance: float = SIGNIFICANCE
) -> tuple[float, float, float]:
    """Estimate of new / base with its interval; (estimate, 0, inf) where samples are too small.

    Args:
        base: positive values that are independent of each other.
        new: likewise.
        significance: two-sided.
    """
    steps = np.sort(np.subtract.outer(np.log(new), np.log(base)).ravel())
    rank = critical_rank(len(base), len(new), significance)
    estimate = float(np.exp(np.median(steps)))
    if rank == 0:
        return estimate, 0.0, float("inf")
    return estimate, float(np.exp(steps[rank - 1])), float(np.exp(steps[-rank]))


def p_value(base: np.ndarray, new: np.ndarray) -> float:
    """Two-sided exact p of the Mann-Whitney test; ties count half on each side."""
    above = np.greater.outer(new, base).sum() + 0.5 * np.equal.outer(new, base).sum()
    statistic = int(np.floor(min(above, len(base) * len(new) - above)))
    counts = _counts(len(base), len(new))
    return min(1.0, 2 * sum(counts[: statistic + 1]) / comb(len(base) + len(new), len(base)))


def critical_rank(base: int, new: int, significance: float) -> int:
    """How many of the sorted differences, plus one, lie outside on each side; 0: too few values."""
    counts, whole = _counts(base, new), comb(base + new, base)
    tail, rank = 0, 0
    for count in counts:
        tail += count
        if 2 * tail > significance * whole:
            return rank
        rank += 1
    return rank


@cache
def _counts(base: int, new: int) -> tuple[int, ...]:
    """How many orders of the values give each value of the statistic, from 0 to base * new."""
    if base == 0 or new == 0:
        return (1,)
    # Either the largest value is one of `new`, above all of `base`, or it is one of `base`.
    counts = [0] * (base * new + 1)
    for statistic, number in enumerate(_counts(base, new - 1)):
        counts[statistic + base] += number
    for statistic, number in enumerate(_counts(base - 1, new)):
        counts[statistic] += number
    return tuple(counts)
