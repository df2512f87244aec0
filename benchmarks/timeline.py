"""What a latency timeline shows besides its percentiles: drift, two modes, steps, outliers."""

from __future__ import annotations

import numpy as np

from benchmarks.latency import Latency

DRIFT_SHARE = 0.03  # of the median, from the first to the last start; less matters to nobody
MODE_SHARE = 0.1  # of the frames: what the smaller mode must hold
VALLEY = 0.5  # of the smaller peak: how deep the gap between two modes must be
STALL_FACTOR = 3.0  # times the median: a frame that something else held up
STALL_SHARE = 0.001
_BINS = 256
_FEWEST_FRAMES = 50
_SIGNIFICANCE = 0.01


def findings(latency: Latency) -> list[str]:
    """What to know before believing the percentiles, in words; empty when nothing is odd."""
    total = latency.of("total")
    rounds = round_medians(latency)
    found = []
    drift = drift_share(rounds)
    if drift:
        word = "slower" if drift > 0 else "faster"
        found.append(
            f"drift: frames became {100 * abs(drift):.1f} % {word} from the first to the last round"
        )
    modes = two_modes(total)
    if modes is not None:
        low, high, share = modes
        found.append(
            f"two modes: {100 * (1 - share):.0f} % of the frames near {low:.3g} ms, "
            f"{100 * share:.0f} % near {high:.3g} ms"
        )
    stalled = float(np.mean(total > STALL_FACTOR * np.median(total)))
    if stalled > STALL_SHARE:
        found.append(
            f"stalls: {100 * stalled:.2f} % of the frames took more than {STALL_FACTOR:g} times "
            "the median"
        )
    apart = latency.per_start("total", 50)
    if len(apart) > 2 and apart.max() / apart.min() > 1.1:
        found.append(
            f"starts differ: the median of a process was between {apart.min():.3g} and "
            f"{apart.max():.3g} ms"
        )
    return found


def round_medians(latency: Latency) -> np.ndarray:
    """Median total of every round, in the order in which they ran."""
    return np.array(
        [
            np.median(start.ms[start.round_of == number, -1])
            for start in latency.starts
            for number in np.unique(start.round_of)
        ]
    )


def drift_share(values: np.ndarray) -> float:
    """How much a series rose from its first to its last value, as a share; 0 without a trend.

    The slope is Theil-Sen's, which a few outliers do not bend; it counts when Kendall's test
    excludes chance and it is large enough to matter.
    """
    if len(values) < 8:
        return 0.0
    from scipy.stats import kendalltau, theilslopes

    places = np.arange(len(values))
    if kendalltau(places, values).pvalue > _SIGNIFICANCE:
        return 0.0
    rise = float(theilslopes(values, places).slope * (len(values) - 1) / np.median(values))
    return rise if abs(rise) >= DRIFT_SHARE else 0.0


def two_modes(ms: np.ndarray) -> tuple[float, float, float] | None:
    """The two peaks in ms and the share of the upper one, None for one mode.

    A histogram of the logarithm smoothed by a Gaussian; two of its peaks are modes when the valley
    between them is deep and each side holds enough frames.
    """
    if len(ms) < _FEWEST_FRAMES or np.ptp(ms) == 0:
        return None
    logs = np.log(ms)
    low, high = np.percentile(logs, (0.5, 99.5))
    width = _bandwidth(logs)
    edges = np.linspace(low - 3 * width, high + 3 * width, _BINS + 1)
    counts = np.histogram(logs, edges)[0].astype(float)
    reach = max(int(np.ceil(3 * width / (edges[1] - edges[0]))), 1)
    offsets = np.arange(-reach, reach + 1) * (edges[1] - edges[0]) / width
    density = np.convolve(counts, np.exp(-0.5 * offsets**2), mode="same")
    peaks = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1
    centres = (edges[1:] + edges[:-1]) / 2
    best: tuple[float, float, float] | None = None
    depth = VALLEY
    for i, left in enumerate(peaks):
        for right in peaks[i + 1 :]:
            valley = left + int(np.argmin(density[left : right + 1]))
            relative = density[valley] / min(density[left], density[right])
            share = float(np.mean(logs > centres[valley]))
            if relative < depth and MODE_SHARE <= share <= 1 - MODE_SHARE:
                best = (float(np.exp(centres[left])), float(np.exp(centres[right])), share)
                depth = relative
    return best


def _bandwidth(logs: np.ndarray) -> float:
    """Silverman's rule with the quartiles; never so narrow that timer steps look like modes."""
    quartiles = np.subtract(*np.percentile(logs, (75, 25))) / 1.349
    scale = min(np.std(logs), quartiles) or np.std(logs)
    return max(0.9 * scale * len(logs) ** -0.2, 0.005)
