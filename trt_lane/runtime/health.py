"""Health: what a run counts, and the one line that says how it is."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trt_lane.runtime.result import Fault, FrameResult

# Enough for a p99 with ten frames behind it, and no more memory than that.
WINDOW = 1024
THERMAL = Path("/sys/class/thermal")


@dataclass
class Health:
    """Counters of a run; latencies over the last WINDOW valid results."""

    started_ns: int = field(default_factory=time.monotonic_ns)
    frames: int = 0
    faults: Counter = field(default_factory=Counter)
    dropped: int = 0
    cameras_lost: int = 0
    restarts: int = 0
    engine_up: bool = True
    output_errors: int = 0
    _latencies: np.ndarray = field(default_factory=lambda: np.full(WINDOW, np.nan))
    _valid: int = 0

    def count(self, result: FrameResult) -> None:
        """Take one result of a frame into account."""
        self.frames += 1
        if result.valid:
            self._latencies[self._valid % WINDOW] = result.latency_ms
            self._valid += 1
        else:
            self.faults[result.fault] += 1

    @property
    def invalid(self) -> int:
        """Frames without an answer."""
        return sum(self.faults.values())

    def percentile_ms(self, share: float) -> float | None:
        """Latency from camera to lanes that so many percent keep; None before the first frame."""
        seen = self._latencies[: min(self._valid, WINDOW)]
        return float(np.percentile(seen, share)) if len(seen) else None

    def to_plain(self, now_ns: int | None = None) -> dict[str, Any]:
        """Values for JSON."""
        elapsed_s = ((now_ns or time.monotonic_ns()) - self.started_ns) / 1e9
        return {
            "seconds": round(elapsed_s, 1),
            "frames": self.frames,
            "per_second": round(self.frames / elapsed_s, 2) if elapsed_s > 0 else 0.0,
            "dropped": self.dropped,
            "invalid": self.invalid,
            "not_finite": self.faults[Fault.NOT_FINITE],
            "bad_frames": self.faults[Fault.BAD_FRAME],
            "cameras_lost": self.cameras_lost,
            "engine": "up" if self.engine_up else "LOST",
            "restarts": self.restarts,
            "output_errors": self.output_errors,
            "p50_ms": _rounded(self.percentile_ms(50)),
            "p99_ms": _rounded(self.percentile_ms(99)),
            "temperature_c": temperature_c(),
        }

    def line(self) -> str:
        """One line for a log."""
        values = {k: "-" if v is None else v for k, v in self.to_plain().items()}
        return "health " + " ".join(f"{k}={v}" for k, v in values.items())


def temperature_c(folder: Path = THERMAL) -> float | None:
    """The hottest thermal zone in degrees Celsius; None where no zone says."""
    found = []
    for zone in folder.glob("thermal_zone*/temp"):
        try:
            degrees = int(zone.read_text()) / 1000
        except (OSError, ValueError):  # a zone that is off answers EAGAIN
            continue
        if -50 < degrees < 200:  # Tegra says -256 for a zone without power
            found.append(degrees)
    return max(found, default=None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
