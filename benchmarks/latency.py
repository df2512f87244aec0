"""Latency: the times of all frames by stage, start and round, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.stopwatch import DEVICE_STAGES, STAGES

PERCENTILES = (50, 90, 99, 99.9)
CAMERA_HZ = (10, 20, 30, 60)
# Fewer frames than this beyond a percentile, and it is their luck.
FRAMES_BEYOND = 5


@dataclass(frozen=True, eq=False)
class Start:
    """One new process: its rounds of frames, each after its own warm-up.

    Attributes:
        ms: float64 (frames, stages).
        begun_s: (frames,) when each frame was handed over, from the start's first one.
        round_of: (frames,) number of the round, from 0.
        canary_ms: (rounds,) a fixed piece of work of no model, timed before every round.
        cpu_s: CPU time of the process.
        device_ms: (frames, 3) copies to, network on and copies from a GPU, by its own events, of
            further frames; empty without one.
    """

    ms: np.ndarray
    begun_s: np.ndarray
    round_of: np.ndarray
    canary_ms: np.ndarray
    cpu_s: float
    device_ms: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))

    def __post_init__(self) -> None:
        device = np.asarray(self.device_ms, np.float64).reshape(-1, len(DEVICE_STAGES))
        object.__setattr__(self, "device_ms", device)
        for name in ("ms", "begun_s", "canary_ms"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        object.__setattr__(self, "round_of", np.asarray(self.round_of, np.int64))
        frames = len(self.ms)
        if self.ms.ndim != 2 or not frames or not np.isfinite(self.ms).all():
            raise ValueError(f"times have shape {self.ms.shape}; expected finite (frames, stages)")
        if self.begun_s.shape != (frames,) or self.round_of.shape != (frames,):
            raise ValueError("times, rounds and begins are not of the same frames")
        if self.ms.min() < 0 or self.ms[:, -1:].min(initial=1) <= 0:
            raise ValueError("a time is below 0, or a frame took none; expected milliseconds")
        if (
            not len(self.canary_ms)
            or not (np.isfinite(self.canary_ms) & (self.canary_ms > 0)).all()
        ):
            raise ValueError("expected the time of the fixed work, above 0, of every round")
        if not 0 <= self.round_of.min() <= self.round_of.max() < len(self.canary_ms):
            raise ValueError(f"a frame is of no round from 0 to {len(self.canary_ms) - 1}")


@dataclass(frozen=True, eq=False)
class Latency:
    """Milliseconds of every measured frame.

    Attributes:
        stages: their names; the last one is "total", from frame to lanes.
        starts: new processes, in the order in which they ran.
        timer_ms: what one reading of the clock costs.
        capture_ms: (frames,) reading and decoding a frame from its file, outside the total; empty
            where frames do not come from files.
    """

    stages: tuple[str, ...]
    starts: tuple[Start, ...]
    timer_ms: float
    capture_ms: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "starts", tuple(self.starts))
        object.__setattr__(self, "capture_ms", np.asarray(self.capture_ms, np.float64))
        if not self.starts or self.stages[-1:] != ("total",):
            raise ValueError("expected at least one start, and total as the last stage")
        if any(start.ms.shape[1] != len(self.stages) for start in self.starts):
            raise ValueError(f"a start has not a time for each of {self.stages}")
        if len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages are {self.stages}; expected each once")
        if any(len(start.device_ms) for start in self.starts) and not set(STAGES) <= {*self.stages}:
            raise ValueError(f"a device's times are parts of {STAGES}, stages are {self.stages}")

    def of(self, stage: str) -> np.ndarray:
        """Milliseconds of all frames in one stage."""
        column = self.stages.index(stage)
        return np.concatenate([start.ms[:, column] for start in self.starts])

    def per_start(self, stage: str, percentile: float) -> np.ndarray:
        """A percentile of one stage for each start: values that are independent of each other."""
        column = self.stages.index(stage)
        return np.array([np.percentile(s.ms[:, column], percentile) for s in self.starts])

    def canary_per_start(self) -> np.ndarray:
        """Median of the fixed work for each start."""
        return np.array([np.median(start.canary_ms) for start in self.starts])

    def summary(self) -> dict[str, Any]:
        """Percentiles per stage, jitter, and the share of frames beyond each camera's interval."""
        total = self.of("total")
        stages = {stage: _percentiles(self.of(stage)) for stage in self.stages}
        if len(self.capture_ms):
            stages = {"capture": _percentiles(self.capture_ms), **stages}
        device = np.concatenate([start.device_ms for start in self.starts])
        return {
            "device": {n: _percentiles(v) for n, v in zip(DEVICE_STAGES, device.T, strict=True)}
            if len(device)
            else {},
            "frames": len(total),
            "starts": len(self.starts),
            "rounds": sum(len(start.canary_ms) for start in self.starts),
            "stages": stages,
            "jitter_ms": jitter_ms(self),
            "spread_of_starts": spread(self.per_start("total", 50))
            if len(self.starts) > 1
            else None,
            "deadline_misses": {str(hz): float(np.mean(total > 1e3 / hz)) for hz in CAMERA_HZ},
            "timer_ms": self.timer_ms,
        }

    def to_dict(self) -> dict:
        """Plain numbers, times to 0.1 µs."""
        return {
            "stages": list(self.stages),
            "timer_ms": self.timer_ms,
            "capture_ms": np.round(self.capture_ms, 4).tolist(),
            "starts": [
                {
                    "ms": np.round(start.ms, 4).tolist(),
                    "begun_s": np.round(start.begun_s, 5).tolist(),
                    "round_of": start.round_of.tolist(),
                    "canary_ms": np.round(start.canary_ms, 4).tolist(),
                    "cpu_s": start.cpu_s,
                    "device_ms": np.round(start.device_ms, 4).tolist(),
                }
                for start in self.starts
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Latency:
        """The inverse of `to_dict`."""
        starts = tuple(Start(**start) for start in values["starts"])
        return cls(values["stages"], starts, values["timer_ms"], values["capture_ms"])


def jitter_ms(latency: Latency) -> float:
    """Mean absolute difference of neighbouring frames' totals within a round (as in RFC 3550)."""
    steps = []
    for start in latency.starts:
        same = start.round_of[1:] == start.round_of[:-1]
        steps.append(np.abs(np.diff(start.ms[:, -1]))[same])
    joined = np.concatenate(steps)
    return float(joined.mean()) if len(joined) else 0.0


def spread(values: np.ndarray) -> float:
    """Half the 95 % interval of the mean of independent values, over their median."""
    if len(values) < 2:
        return float("inf")
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(half / max(np.median(values), 1e-12))


def told_percentile(ms: np.ndarray, percent: float) -> float | None:
    """A percentile; None where so few frames lie beyond it that it is their luck."""
    beyond = len(ms) * (100 - percent) / 100
    return float(np.percentile(ms, percent)) if percent == 50 or beyond >= FRAMES_BEYOND else None


def _percentiles(ms: np.ndarray) -> dict[str, float | None]:
    """Percentiles, mean and extremes; one that too few frames lie beyond is None."""
    found = {f"p{percent:g}": told_percentile(ms, percent) for percent in PERCENTILES}
    return {**found, "mean": float(ms.mean()), "min": float(ms.min()), "max": float(ms.max())}
