"""How often the comparison is wrong here: the same engine twice, and faults that were planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.accuracy import Accuracy
from benchmarks.bench_report import BenchmarkReport
from benchmarks.compare import QUIET, compare, machine_ratio
from trt_lane.metrics.bootstrap import f1_of_frames

LATENCY_GATE = ("total p50", QUIET)
VERDICTS = {0: "no worse", 1: "worse", 2: "not comparable"}
LOST_POINTS = 0.5


def alarm_rate(
    bench: Callable[[Sequence[float]], Sequence[BenchmarkReport]],
    pairs: int,
    slow_down: float,
    say: Callable[[str], None] = lambda line: None,
    keep: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Verdicts on the same engine and on one that is slower by `slow_down`, `pairs` times each.

    Every verdict stands under "outcomes" with how much longer a frame and the work of no model took
    in the second report, in % with the 95 % interval.

    Args:
        bench: measures the latency with so much slow-down planted each; all at once, by turns, or
            one after the other.
        pairs: of each kind.
        slow_down: share of a frame's time.
        say: takes a line for people.
        keep: takes what was found so far after every pair.
    """
    found: dict[str, Any] = {
        "pairs": 0,
        "slow_down": slow_down,
        "same_engine": Counter(),
        "slower_engine": Counter(),
        "outcomes": [],
    }
    same, slower = found["same_engine"], found["slower_engine"]
    for number in range(pairs):
        # The one and the other come first by turns, so that a drifting machine favours none.
        kinds = (0.0, slow_down) if number % 2 else (slow_down, 0.0)
        base, *others = bench((0.0, *kinds))
        for planted, other in zip(kinds, others, strict=True):
            outcome = compare(base, other, LATENCY_GATE)
            word = VERDICTS[outcome.exit_status]
            (slower if planted else same)[word] += 1
            p50 = outcome.verdicts[0].to_dict()
            found["outcomes"].append(
                {
                    "planted": planted,
                    "verdict": word,
                    "frame_percent": [p50[name] for name in ("change", "low", "high")],
                    "machine_percent": [100 * (ratio - 1) for ratio in machine_ratio(base, other)],
                    "reason": p50["reason"],
                }
            )
        found["pairs"] = number + 1
        say(f"[{number + 1}/{pairs}] same engine: {dict(same)}; slower: {dict(slower)}")
        keep(found)
    return found


def told(outcome: dict[str, Any]) -> str:
    """An entry of "outcomes" in words: how much longer a frame and the work of no model took."""
    frame, machine = (
        "{:+.1f} % ({:+.1f} to {:+.1f} %)".format(*outcome[kind])
        for kind in ("frame_percent", "machine_percent")
    )
    return f"a frame took {frame} longer, work of no model {machine}"


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
