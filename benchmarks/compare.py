"""Two reports of one device: a verdict per figure, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.accuracy import Accuracy, Form
from benchmarks.bench_report import BenchmarkReport
from benchmarks.latency import Latency
from benchmarks.rank_interval import p_value, ratio_interval
from benchmarks.stopwatch import STAGES
from benchmarks.verdict import Scale, Verdict, Word, exit_status
from trt_lane.errors import TrtLaneError
from trt_lane.metrics.bootstrap import (
    accuracy_of_frames,
    drawn_in_parts,
    f1,
    f1_of_frames,
    interval,
)

# Shares of the base's time. A slow-down of 10 % has to be found, so nothing that might be one
# passes; the median of a process is the value, since its frames hang together.
MEDIAN = Scale(margin=0.02, limit=0.07)
TAIL = Scale(margin=0.05, limit=0.25)
# Points of F1 or accuracy: a loss of half a point has to be found.
POINTS = Scale(margin=0.0, limit=0.4)
DISTORTION_PX = Scale(margin=0.0, limit=0.5)
# The fixed work of no model may differ by this, else it is the machine that changed.
MACHINE = 0.02
OTHER_CORES = 0.25
DRAWS = 4000
# Drawing a handful of frames anew finds too narrow an interval: of one frame it finds none at all.
FEWEST_FRAMES = 10
# To what the clock is told in a report: a stage that a device does by itself takes nothing here.
CLOCK_MS = 1e-4
# Frames that nothing disturbed: where a busy machine blurs the median they may still tell that an
# engine became slower. That they did not is no proof, so they decide only then.
QUIET = "total p10"
# TuSimple's accuracy does not fall when a lane or two are invented, its FP rises. Shares of a few
# lanes per image jump too much to prove that all is well, so where nobody asks they only alarm.
ALARMS = ("FP", "FN")
GATES = ("total p50", QUIET, "F1", "accuracy", "agreement F1")


@dataclass(frozen=True)
class Outcome:
    """What the comparison of two reports says.

    Attributes:
        verdicts: one per figure.
        not_comparable: why no figure of the latency can be compared; empty when they can.
    """

    verdicts: tuple[Verdict, ...]
    not_comparable: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """0 no worse, 1 worse, 2 not comparable."""
        return exit_status(list(self.verdicts))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "exit_status": self.exit_status,
            "not_comparable": list(self.not_comparable),
            "verdicts": [v.to_dict() for v in self.verdicts],
        }


def compare(
    base: BenchmarkReport, new: BenchmarkReport, gates: Sequence[str] | None = None
) -> Outcome:
    """Verdicts on latency and accuracy.

    Args:
        base: what to compare with.
        new: what to judge.
        gates: figures that decide, each of which both reports must have; None: GATES, as far as
            either report has them.

    Raises:
        TrtLaneError: reports of two models, or a gate that is not in both.
    """
    if base.model != new.model:
        raise TrtLaneError(
            f"one report is of {base.model}, the other of {new.model}; expected one model"
        )
    other = _other_machine(base, new)
    noise = _unsteady(base, new) if not other else []
    labelled = any(a is not None and a.metric is not None for a in (base.accuracy, new.accuracy))
    # Where labels say what lanes are worth, agreement with float is no more than a hint.
    default = [gate for gate in GATES if not (labelled and gate == "agreement F1")]
    wanted = default if gates is None else gates
    verdicts = _latency(base.latency, new.latency, wanted, other, noise)
    alarms = ALARMS if gates is None else ()
    verdicts += _accuracy(base.accuracy, new.accuracy, wanted, alarms)
    known = [v.figure for v in verdicts]
    missing = [gate for gate in gates or () if gate not in known]
    if missing:
        raise TrtLaneError(
            f"no figure {', '.join(missing)} in both reports; expected some of {', '.join(known)}"
        )
    return Outcome(tuple(verdicts), tuple(other or noise))


def machine_ratio(base: BenchmarkReport, new: BenchmarkReport) -> tuple[float, float, float]:
    """Time that the work of no model took in the new report over that in the base, interval."""
    return ratio_interval(base.latency.canary_per_start(), new.latency.canary_per_start())


def check_gates(gates: Sequence[str] | None) -> None:
    """Refuse a gate that no report ever has, before anything is measured."""
    figures = {f"{stage} p50" for stage in STAGES} | {QUIET, "total p99"}
    figures |= {figure for figure, *_ in _FIGURES}
    unknown = sorted(set(gates or ()) - figures)
    if unknown:
        raise TrtLaneError(f"no figure {unknown[0]!r}; known figures: {', '.join(sorted(figures))}")


def _other_machine(base: BenchmarkReport, new: BenchmarkReport) -> list[str]:
    """What makes it another device, another clock, another version or another measurement."""
    found = base.environment.differences(new.environment)
    for name, report in (("base", base), ("new", new)):
        found += [f"{name} was throttled: {why}" for why in report.environment.throttled()]
    if base.latency.stages != new.latency.stages:
        found.append(f"stages are {base.latency.stages} against {new.latency.stages}")
    if base.conditions.get("frames_sha256") != new.conditions.get("frames_sha256"):
        ours, theirs = base.conditions.get("data"), new.conditions.get("data")
        found.append(f"other frames were timed: of {ours} against {theirs}")
    return found


def _unsteady(base: BenchmarkReport, new: BenchmarkReport) -> list[str]:
    """What says that the machine itself was not the same, with the figure."""
    found = []
    ratio, low, high = machine_ratio(base, new)
    if low > 1 + MACHINE or high < 1 / (1 + MACHINE):
        found.append(
            f"work of no model took {100 * (ratio - 1):+.1f} % time ({100 * (low - 1):+.1f} to "
            f"{100 * (high - 1):+.1f} %): the machine changed, so the engine cannot be told"
        )
    ours, theirs = base.environment.other_cores, new.environment.other_cores
    if ours is not None and theirs is not None and abs(ours - theirs) > OTHER_CORES:
        found.append(f"other programs kept {ours:.2f} cores busy against {theirs:.2f}")
    return found


def _latency(
    base: Latency,
    new: Latency,
    gates: Sequence[str],
    other: Sequence[str],
    noise: Sequence[str],
) -> list[Verdict]:
    stages = [s for s in base.stages if s in new.stages]
    figures = [(f"{stage} p50", stage, 50.0, MEDIAN) for stage in reversed(stages)]
    figures[1:1] = [(QUIET, "total", 10.0, MEDIAN), ("total p99", "total", 99.0, TAIL)]
    canaries = (base.canary_per_start(), new.canary_per_start())
    verdicts = []
    for figure, stage, percentile, scale in figures:
        ours, theirs = (
            np.maximum(report.per_start(stage, percentile), CLOCK_MS) for report in (base, new)
        )
        ratio, low, high = (value - 1 for value in ratio_interval(ours, theirs))
        word, reason = scale.word(low, high), f"Mann-Whitney p {p_value(ours, theirs):.2g}"
        if not np.isfinite(high):
            word = Word.NOISE
            reason = f"{len(ours)} and {len(theirs)} starts; expected 4 or more of each"
        elif word is Word.NOISE:
            reason = f"the interval reaches {100 * high:+.1f} %; more or longer starts narrow it"
        if other:
            word, reason = Word.OTHER, other[0]
        elif noise:
            word, reason = Word.NOISE, noise[0]
        elif why := _machine_may_be_why(word, scale, ours / canaries[0], theirs / canaries[1]):
            word, reason = Word.NOISE, why
        gate = figure in gates and (figure != QUIET or word is Word.WORSE)
        verdicts.append(
            Verdict(
                figure, float(np.median(ours)), float(np.median(theirs)),
                100 * ratio, 100 * low, 100 * high, "%", word, gate, reason,
            )
        )  # fmt: skip
    return verdicts


def _machine_may_be_why(word: Word, scale: Scale, base: np.ndarray, new: np.ndarray) -> str:
    """Why times that are worse, or are not, may be so by the machine's own change; "" if not.

    Args:
        word: of the times themselves.
        scale: of the figure.
        base: times over that of the work of no model, for each start.
        new: likewise.
    """
    change = ratio_interval(base, new)[0] - 1
    if word is Word.WORSE and change <= scale.margin:
        return (
            f"against work of no model, timed beside it, it took {100 * change:+.1f} % time: the "
            "machine may have changed, not the engine; measure by turns (`ab`) or again"
        )
    if word in (Word.SAME, Word.BETTER) and change >= scale.limit:
        return (
            f"against work of no model, timed beside it, it took {100 * change:+.1f} % time: a "
            "faster machine may hide a slower engine; measure by turns (`ab`) or again"
        )
    return ""


def _accuracy(
    base: Accuracy | None, new: Accuracy | None, gates: Sequence[str], alarms: Sequence[str]
) -> list[Verdict]:
    """Paired by frame, so what all frames find hard does not widen the interval."""
    verdicts = []
    for figure, value, unit, factor, scale in _FIGURES:
        ours, theirs = (None if a is None else value(a.forms["engine"]) for a in (base, new))
        if ours is None and theirs is None:
            continue
        gate = figure in gates
        if ours is None or theirs is None:
            # A figure that is left out must not pass: nobody knows what it would have been.
            has = "base" if theirs is None else "new"
            reason = f"only the {has} report has it; measure both in the same way"
        else:
            reason = _other_frames(base, new)
        if reason:
            verdicts.append(
                Verdict(figure, None, None, None, None, None, unit, Word.OTHER, gate, reason)
            )
            continue
        statistic = _STATISTIC[figure]
        before, after = float(statistic(ours)), float(statistic(theirs))
        low, high = _paired(ours, theirs, statistic, factor)
        word = scale.word(low, high)
        why = f"{len(ours)} frames"
        if len(ours) < FEWEST_FRAMES:
            word, why = Word.NOISE, f"{why}; expected {FEWEST_FRAMES} or more"
        elif word is Word.NOISE:
            why += f"; the interval reaches {abs(high):.2f} {unit}, more frames narrow it"
        change = factor * (after - before) + 0.0  # no minus zero
        gate = gate or (figure in alarms and word is Word.WORSE)
        verdicts.append(Verdict(figure, before, after, change, low, high, unit, word, gate, why))
    return verdicts


def _other_frames(base: Accuracy, new: Accuracy) -> str:
    if base.data_digest != new.data_digest:
        return f"frames are of {base.data} against {new.data}, or their content changed"
    if base.frames != new.frames:
        return f"{len(base.frames)} frames against {len(new.frames)}, or others of the same data"
    return ""


def _paired(
    base: np.ndarray, new: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], factor: float
) -> tuple[float, float]:
    """Interval of the change over drawn frames, the same ones for both; positive is worse."""
    changes = [
        factor * (statistic(new[drawn]) - statistic(base[drawn])) + 0.0  # no minus zero
        for drawn in drawn_in_parts(len(base), DRAWS)
    ]
    low, high = interval(np.concatenate(changes))
    return min(low, high), max(low, high)


def _at(iou: float) -> Callable[[Form], np.ndarray | None]:
    return lambda form: None if form.culane is None else form.counts(iou)


def _mean(values: np.ndarray) -> np.ndarray:
    return np.mean(values, axis=-1)


def _mf1(rows: np.ndarray) -> np.ndarray:
    """Mean F1 over MF1_IOUS of rows of Form.culane (..., frames, columns)."""
    sums = rows.sum(axis=-2)
    tp, pred, anno = sums[..., 2:], sums[..., :1], sums[..., 1:2]
    return f1(np.stack([tp, pred - tp, anno - tp], axis=-1)).mean(axis=-1)


def _mean_of(column: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda rows: np.mean(rows[..., column], axis=-1)


# A loss of F1 or accuracy is worse, so its change counts downwards, in points; FP and FN upwards.
_FIGURES = (
    ("F1", _at(0.5), "points", -100.0, POINTS),
    ("F1 at .75", _at(0.75), "points", -100.0, POINTS),
    ("mF1", lambda form: form.culane, "points", -100.0, POINTS),
    ("accuracy", lambda form: form.tusimple, "points", -100.0, POINTS),
    ("FP", lambda form: form.tusimple, "points", 100.0, POINTS),
    ("FN", lambda form: form.tusimple, "points", 100.0, POINTS),
    ("agreement F1", lambda form: form.agreement, "points", -100.0, POINTS),
    ("LDS px", lambda form: form.distortion_px, "px", 1.0, DISTORTION_PX),
)
_STATISTIC: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "F1": f1_of_frames,
    "F1 at .75": f1_of_frames,
    "mF1": _mf1,
    "accuracy": accuracy_of_frames,
    "FP": _mean_of(1),
    "FN": _mean_of(2),
    "agreement F1": f1_of_frames,
    "LDS px": _mean,
}
