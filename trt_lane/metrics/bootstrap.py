"""Percentile intervals of a score by drawing frames anew with replacement (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

DRAWS = 1000
COVERAGE = 0.95
SEED = 20240506
# Indices held at a time: of tens of thousands of frames all draws at once would be gigabytes.
_HELD = 1_000_000


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of summed [tp, fp, fn] along the last axis; 1 where all are 0, as CulaneCounts has it."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    whole = 2 * tp + fp + fn
    return np.where(whole > 0, 2 * tp / np.maximum(whole, 1), 1.0)


def recall(counts: np.ndarray) -> np.ndarray:
    """Recall of summed [tp, fp, fn]; 1 where there was nothing to find and nothing was claimed."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return np.where(tp + fn > 0, tp / np.maximum(tp + fn, 1), fp == 0)


def f1_of_frames(frames: np.ndarray) -> np.ndarray:
    """F1 of [tp, fp, fn] (..., frames, 3), counts summed over frames."""
    return f1(np.sum(frames, axis=-2))


def recall_of_frames(frames: np.ndarray) -> np.ndarray:
    """Recall of [tp, fp, fn] (..., frames, 3), counts summed over frames."""
    return recall(np.sum(frames, axis=-2))


def accuracy_of_frames(frames: np.ndarray) -> np.ndarray:
    """TuSimple's accuracy of [accuracy, fp, fn] (..., frames, 3): the mean over frames."""
    return np.mean(np.asarray(frames, np.float64)[..., 0], axis=-1)


def drawn_frames(frames: int, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """Indices (draws, frames); the same for everything scored on the same frames, so paired."""
    return np.random.default_rng(seed).integers(0, frames, (draws, frames))


def drawn_in_parts(frames: int, draws: int = DRAWS, seed: int = SEED) -> Iterator[np.ndarray]:
    """The rows of `drawn_frames`, a few (n, frames) at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _HELD // frames)
    for start in range(0, draws, step):
        yield rng.integers(0, frames, (min(step, draws - start), frames))


def interval(draws: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The central 95 % of the drawn scores."""
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(np.asarray(draws, np.float64), (tail, 1 - tail))
    return float(low), float(high)


def points_interval(
    found: np.ndarray, reference: np.ndarray, of_sums: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Interval of `found` minus `reference`, in points (hundredths); both draw the same frames.

    Args:
        found: what each frame adds, (frames, ...).
        reference: likewise, of the same frames.
        of_sums: the score in [0, 1] of sums over frames: (draws, ...) -> (draws,).
    """
    frames, row = len(found), found.shape[1:]
    pair = [np.asarray(a, np.float64).reshape(frames, -1) for a in (found, reference)]
    differences = []
    for drawn in drawn_in_parts(frames):
        times = np.stack([np.bincount(d, minlength=frames) for d in drawn]).astype(np.float64)
        value, other = (of_sums((times @ a).reshape(len(drawn), *row)) for a in pair)
        differences.append(100 * (value - other) + 0.0)  # no minus zero
    return interval(np.concatenate(differences))
