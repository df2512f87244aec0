"""The spline along which LLAMAS' evaluator draws a predicted lane."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

POINTS = 50


def spline_points(lane: np.ndarray, count: int = POINTS) -> np.ndarray:
    """Points at equal steps of chord length on the cubic through a lane, not-a-knot at both ends.

    The curve that scipy's splprep(s=0) finds (P. Dierckx, Curve and Surface Fitting with Splines,
    1993; parcur): a straight line through 2 points, a parabola through 3, one cubic through 4.
    Equal to it but for rounding, about 1e-10 px.

    Args:
        lane: (P, 2), P >= 2, no two neighbours equal.
        count: number of points.

    Returns:
        float64 (count, 2).
    """
    lane = np.asarray(lane, np.float64)
    steps = np.diff(lane, axis=0)  # (P-1, 2)
    chord = np.sqrt((steps**2).sum(axis=1))
    place = np.concatenate([[0.0], np.cumsum(chord)])
    chord, place = chord / place[-1], place / place[-1]
    slope = steps / chord[:, None]
    bend = _second_derivatives(chord, slope)  # (P, 2)
    at = np.linspace(0.0, 1.0, count)
    i = np.clip(np.searchsorted(place, at, side="right") - 1, 0, len(chord) - 1)
    t, h = (at - place[i])[:, None], chord[i, None]
    linear = slope[i] - h * (2 * bend[i] + bend[i + 1]) / 6
    cube = (bend[i + 1] - bend[i]) / (6 * h)
    return lane[i] + t * (linear + t * (bend[i] / 2 + t * cube))


def _second_derivatives(chord: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Second derivative at every point (P, 2): a tridiagonal system, by Thomas."""
    change = np.diff(slope, axis=0)  # (P-2, 2)
    if len(chord) == 1:
        return np.zeros((2, 2))
    if len(chord) == 2:
        return np.repeat(2 * change / chord.sum(), 3, axis=0)
    h, right = chord.tolist(), (6 * change).tolist()
    count = len(right)
    lower = [0.0, *h[1:-1]]
    middle = [2 * (a + b) for a, b in pairwise(h)]
    upper = [*h[1:-1], 0.0]
    # Where the third derivative does not jump at the last point but one, the end's own second
    # derivative follows from the next two; put into the first and last equation.
    for k, end, near in ((0, h[0], h[1]), (count - 1, h[-1], h[-2])):
        middle[k] += end * (1 + end / near)
    upper[0] -= h[0] * h[0] / h[1]
    lower[-1] -= h[-1] * h[-1] / h[-2]
    for k in range(1, count):
        share = lower[k] / middle[k - 1]
        middle[k] -= share * upper[k - 1]
        right[k] = [r - share * before for r, before in zip(right[k], right[k - 1], strict=True)]
    inner = [[r / middle[-1] for r in right[-1]]]
    for k in range(count - 2, -1, -1):
        inner.append(
            [(r - upper[k] * n) / middle[k] for r, n in zip(right[k], inner[-1], strict=True)]
        )
    bend = np.array(inner[::-1])
    first = bend[0] + (bend[0] - bend[1]) * (h[0] / h[1])
    last = bend[-1] + (bend[-1] - bend[-2]) * (h[-1] / h[-2])
    return np.concatenate([first[None], bend, last[None]])
