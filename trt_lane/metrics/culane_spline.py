"""The natural cubic spline along which the CULane evaluator draws a lane."""

from __future__ import annotations

import numpy as np

POINTS_PER_SEGMENT = 50


def spline_points(lane: np.ndarray) -> np.ndarray:
    """Points on the spline through a lane, parametrised by chord length.

    Args:
        lane: float32 (P, 2), P >= 3. Two equal neighbours make everything but the last point NaN:
            the official code divides by their distance too, and such a lane is all but invisible.

    Returns:
        float32 (50 (P - 1) + 1, 2).
    """
    lane = np.asarray(lane, np.float32)
    # float32 until here: the official code subtracts floats and only then goes on in double.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        chord, linear, square, cube = (part[:, None] for part in segments(lane))
        t = (chord / POINTS_PER_SEGMENT) * np.arange(POINTS_PER_SEGMENT)  # (P-1, 50)
        t = t[:, :, None]
        curve = lane[:-1, None].astype(np.float64) + linear * t + square * t**2 + cube * t**3
        return np.concatenate([curve.reshape(-1, 2).astype(np.float32), lane[-1:]])


def segments(lane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cubic between every two points of a lane (P, 2), P >= 2; straight where P is 2.

    Returns:
        Chord lengths (P - 1,) and coefficients (P - 1, 2) of t, t^2 and t^3, t from 0 to the chord.
    """
    steps = np.diff(lane, axis=0).astype(np.float64)  # (P-1, 2)
    chord = np.sqrt(steps[:, 0] ** 2 + steps[:, 1] ** 2)[:, None]  # (P-1, 1)
    slope = steps / chord
    bend = _second_derivatives(chord, slope)
    linear = slope - (2 * chord * bend[:-1] + chord * bend[1:]) / 6
    return chord[:, 0], linear, bend[:-1] / 2, (bend[1:] - bend[:-1]) / (6 * chord)


def _second_derivatives(chord: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Second derivative at every point (P, 2), 0 at both ends: a tridiagonal system, by Thomas."""
    count = len(chord) - 1
    right = 6 * np.diff(slope, axis=0)  # (P-2, 2)
    upper = np.empty((count, 1))
    for i in range(count):
        pivot = 2 * (chord[i] + chord[i + 1])
        if i:
            pivot = pivot - chord[i] * upper[i - 1]
            right[i] -= chord[i] * right[i - 1]
        upper[i] = chord[i + 1] / pivot
        right[i] /= pivot
    for i in range(count - 2, -1, -1):
        right[i] -= upper[i] * right[i + 1]
    ends = np.zeros((1, 2))
    return np.concatenate([ends, right, ends])
