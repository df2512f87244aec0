"""From what a tensor's values look like to its quantisation step: min-max, percentile, …, ACIQ.

Every observer is symmetric: it picks a clipping range [-t, t] and the step is t / qmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from trt_lane.scales import SMALLEST_STEP

BINS = 8192
# OMSE as BRECQ's and QDrop's code run it: L2.4 error over 100 shrunken ranges.
MSE_NORM = 2.4
MSE_CANDIDATES = 100


@dataclass
class Statistics:
    """Running statistics of a tensor's magnitudes.

    Attributes:
        absmax: largest magnitude; fixes the histogram's range before `counts` is filled.
        counts: float64 (BINS,), how many magnitudes fall in each of BINS equal bins of [0, absmax].
        total, abs_sum, square_sum: number of values other than 0, sums of |x| and x².
        signed: whether a value was below 0.
    """

    absmax: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    total: int = 0
    abs_sum: float = 0.0
    square_sum: float = 0.0
    signed: bool = False

    def centres(self) -> np.ndarray:
        """Magnitude at the middle of each bin, (BINS,)."""
        return (np.arange(BINS) + 0.5) * (self.absmax / BINS)


def minmax(statistics: Statistics, qmax: int) -> float:
    """The largest magnitude: nothing is clipped."""
    del qmax
    return statistics.absmax


def percentile(statistics: Statistics, qmax: int, share: float = 99.99) -> float:
    """The magnitude below which `share` per cent of the values lie."""
    del qmax
    below = np.cumsum(statistics.counts)
    index = int(np.searchsorted(below, below[-1] * share / 100))
    return statistics.absmax * (min(index, BINS - 1) + 1) / BINS


def mse(statistics: Statistics, qmax: int) -> float:
    """The range of least L2.4 rounding and clipping error (OMSE; BRECQ's observer)."""
    filled = np.flatnonzero(statistics.counts)
    values, counts = statistics.centres()[filled], statistics.counts[filled]
    candidates = statistics.absmax * np.arange(1, MSE_CANDIDATES + 1) / MSE_CANDIDATES
    errors = []
    for threshold in candidates:
        step = threshold / qmax
        quantised = np.minimum(np.round(values / step), qmax) * step
        errors.append(float(np.dot(np.abs(quantised - values) ** MSE_NORM, counts)))
    return float(candidates[int(np.argmin(errors))])


def entropy(statistics: Statistics, qmax: int) -> float:
    """The range of least Kullback-Leibler divergence (Migacz, GTC 2017: TensorRT's calibrator)."""
    levels = qmax + 1
    fine = 2048
    histogram = statistics.counts.reshape(fine, -1).sum(axis=1)
    # Exact zeros (ReLU) sit on the grid whatever the range: they would drown the rest.
    histogram[0] = histogram[1]
    best, best_bins = math.inf, fine
    for bins in (*range(levels, fine, 8), fine):
        reference = histogram[:bins].copy()
        reference[-1] += histogram[bins:].sum()
        divergence = _divergence(reference, _coarsen(histogram[:bins], levels))
        if divergence < best:
            best, best_bins = divergence, bins
    return statistics.absmax * min((best_bins + 0.5) / fine, 1.0)


def aciq(statistics: Statistics, qmax: int) -> float:
    """The analytic optimum for a Laplace or Gaussian tensor (Banner et al. 2019, sections 2-3).

    The distribution is the one whose E|x| / sqrt(E x²) is closer (Laplace .707, Gauss .798). Exact
    zeros (ReLU) cost nothing at any step and are left out: the rest is half of the distribution.
    """
    mean_abs = statistics.abs_sum / max(statistics.total, 1)
    deviation = math.sqrt(statistics.square_sum / max(statistics.total, 1))
    if deviation == 0:
        return statistics.absmax
    laplace = abs(mean_abs / deviation - math.sqrt(0.5)) < abs(
        mean_abs / deviation - math.sqrt(2 / math.pi)
    )
    unit = mean_abs if laplace else deviation
    return min(_aciq_clip(laplace, qmax) * unit, statistics.absmax)


OBSERVERS: dict[str, Callable[..., float]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
    "aciq": aciq,
}


def fp16_exact(scale: np.ndarray | float) -> np.ndarray:
    """The nearest step that FP16 holds exactly, so that FP16 and FP32 engines use the same one.

    Steps are floored at 2^-20: below it FP16 keeps fewer than 5 bits, and a channel that small is
    dead (real checkpoints hold weights of 1e-44). Steps past FP16's range stay float32.
    """
    scale = np.maximum(np.asarray(scale, np.float32), np.float32(SMALLEST_STEP))
    with np.errstate(over="ignore"):
        rounded = scale.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(rounded), rounded, scale).astype(np.float32)


def _coarsen(histogram: np.ndarray, levels: int) -> np.ndarray:
    """The histogram with its bins merged into `levels`, each spread over its filled bins."""
    bins = len(histogram)
    group = np.minimum(np.arange(bins) * levels // bins, levels - 1)
    filled = histogram > 0
    sums = np.bincount(group, histogram, levels)
    sizes = np.bincount(group, filled, levels)
    return np.where(filled, (sums / np.maximum(sizes, 1))[group], 0.0)


def _divergence(reference: np.ndarray, candidate: np.ndarray) -> float:
    p = reference / max(reference.sum(), 1e-300)
    q = candidate / max(candidate.sum(), 1e-300)
    where = p > 0
    # A bin that the candidate cannot reach costs as if it held a tiny share.
    return float(np.sum(p[where] * np.log(p[where] / np.maximum(q[where], 1e-12))))


@lru_cache(maxsize=32)
def _aciq_clip(laplace: bool, qmax: int) -> float:
    """Optimal clip of a unit Laplace (b = 1) or Gaussian (sigma = 1) for a step of clip / qmax."""
    clips = np.linspace(0.5, 40, 20000)
    rounding = (clips / qmax) ** 2 / 12
    if laplace:
        clipping = 2 * np.exp(-clips)
    else:
        erfc = np.array([math.erfc(c / math.sqrt(2)) for c in clips])
        density = np.exp(-(clips**2) / 2) / math.sqrt(2 * math.pi)
        clipping = (clips**2 + 1) * erfc - 2 * clips * density
    return float(clips[int(np.argmin(rounding + clipping))])
