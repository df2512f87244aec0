"""How often the comparison is wrong here: the same engine twice, and faults that were planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.accuracy import Accuracy
from benchmarks.bench_report import BenchmarkReport
from benchmarks.bootstrap import f1_of_frames
from benchmarks.compare import QUIET, compare

LATENCY_GATE = ("total p50", QUIET)
VERDICTS = {0: "no worse", 1: "worse", 2: "not comparable"}
LOST_POINTS = 0.5


def alarm_rate(
    bench: Callable[[Sequence[float]], Sequence[BenchmarkReport]],
    pairs: int,
    slow_down: float,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Verdicts on the same engine and on one that is slower by `slow_down`, `pairs` times each.

    Args:
        bench: measures the latency with so much slow-down planted each; all at once, by turns, or
            one after the other.
        pairs: of each kind.
        slow_down: share of a frame's time.
        say: takes a line for people.
    """
    same: Counter[str] = Counter()
    slower: Counter[str] = Counter()
    reasons: list[str] = []
    for number in range(pairs):
        # The one and the other come first by turns, so that a drifting machine favours none.
        kinds = (0.0, slow_down) if number % 2 else (slow_down, 0.0)
        base, *others = bench((0.0, *kinds))
        for planted, other in zip(kinds, others, strict=True):
            outcome = compare(base, other, LATENCY_GATE)
            word = VERDICTS[outcome.exit_status]
            (slower if planted else same)[word] += 1
            if outcome.exit_status == 2:
                reasons += [v.reason for v in outcome.verdicts if v.gates][:1]
        say(f"[{number + 1}/{pairs}] same engine: {dict(same)}; slower: {dict(slower)}")
    return {
        "pairs": pairs,
        "slow_down": slow_down,
        "same_engine": dict(same),
        "slower_engine": dict(slower),
        "reasons": reasons,
    }


def lost_lanes(accuracy: Accuracy, points: float, seed: int) -> Accuracy:
    """The same frames with lanes lost at random until F1 is lower by `points` or a hair more."""
    form = accuracy.forms["engine"]
    rows = form.culane.copy()
    rng = np.random.default_rng(seed)
    before = float(f1_of_frames(form.counts(0.5)))
    while True:
        found = replace(form, culane=rows)
        if 100 * (before - float(f1_of_frames(found.counts(0.5)))) >= points:
            return replace(accuracy, forms={**accuracy.forms, "engine": found})
        places = np.flatnonzero(rows[:, 2])
        if not len(places):
            raise ValueError(f"F1 is {before}; {points} points of it cannot be lost")
        place = rng.choice(places)
        # A lane that is not found any more was still predicted: somewhere else.
        rows[place, 2:] = np.maximum(rows[place, 2:] - 1, 0)


def planted_losses(report: BenchmarkReport, pairs: int) -> dict[str, int]:
    """Verdicts on F1 where half a point of it was taken away, `pairs` times anew."""
    found: Counter[str] = Counter()
    for seed in range(pairs):
        worse = replace(report, accuracy=lost_lanes(report.accuracy, LOST_POINTS, seed))
        found[VERDICTS[compare(report, worse, ("F1",)).exit_status]] += 1
    return dict(found)
