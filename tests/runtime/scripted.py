"""Sources that do what a script says, and backends that fail when they are told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tiny_artifact import DECODER, IMAGE

from trt_lane.artifact import EngineArtifact
from trt_lane.detector import LaneDetector
from trt_lane.fit import Fit
from trt_lane.runtime.engine import Engine
from trt_lane.runtime.grabber import Grabber
from trt_lane.runtime.loop import Limits, Run
from trt_lane.runtime.source import SourceSpec
from trt_lane.runtime.watchdog import Watchdog

LOST = None


def frame(height: int = 59, width: int = 164, value: int = 0) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


class ScriptedSource:
    """Gives the steps of a script: frames, LOST, or an exception to raise."""

    def __init__(self, steps: Iterable[object], pause_s: float) -> None:
        self.steps, self.pause_s = iter(steps), pause_s

    def read(self) -> np.ndarray | None:
        time.sleep(self.pause_s)
        step = next(self.steps, LOST)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        pass


def scripted(
    *openings: Iterable[object] | None, live: bool = True, pause_s: float = 0.002
) -> SourceSpec:
    """A source that gives one script per opening; None: it does not open. Then it never does."""
    left = iter(openings)

    def open_next() -> ScriptedSource | None:
        steps = next(left, None)
        return None if steps is None else ScriptedSource(steps, pause_s)

    return SourceSpec("script", live, open_next)


class Heads:
    """A backend with two lanes; `fault(call number)` may return other heads or raise."""

    def __init__(self, fault: Callable[[int], np.ndarray | None] = lambda n: None) -> None:
        self.fault, self.calls, self.closed = fault, 0, 0

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        other = self.fault(self.calls)
        return {"logits": two_lanes() if other is None else other}

    def close(self) -> None:
        self.closed += 1


def two_lanes() -> np.ndarray:
    logits = np.zeros(DECODER.head_shape, np.float32)
    logits[2, :, 0] = logits[7, :, 1] = 20
    return logits


class Collector:
    """An output that keeps what it gets, and stops the run after so many results."""

    name, wants_end = "collector", False

    def __init__(self, stop_after: int = 0) -> None:
        self.results, self.frames, self.closed = [], [], False
        self.stop_after = stop_after

    def publish(self, result, frame) -> None:
        self.results.append(result)
        self.frames.append(frame)
        if self.stop_after and len(self.results) >= self.stop_after:
            self.wants_end = True

    def close(self) -> None:
        self.closed = True


def make_run(
    folder: Path,
    specs: list[SourceSpec],
    outputs: list,
    *,
    backends: Callable[[], object] = Heads,
    limits: Limits | None = None,
    fit: Fit = Fit.CROP,
    log: list[str] | None = None,
    keep_all: bool = False,
) -> Run:
    """A run of those sources on the tiny artifact's geometry; `backends` makes one per opening."""
    artifact = EngineArtifact.load(folder)
    assert artifact.image == IMAGE
    say = ([] if log is None else log).append
    engine = Engine(lambda: LaneDetector(artifact, backends(), fit), say)
    arrived = threading.Event()
    grabbers = [Grabber(spec, arrived, keep_all=keep_all) for spec in specs]
    limits = limits or Limits(max_age_ms=10_000, health_every_s=0)
    watchdog = Watchdog(0, say)
    return Run(grabbers, arrived, engine, artifact.image, fit, outputs, limits, say, watchdog)


def go(run: Run, seconds: float = 10.0) -> object:
    """Let it run, but not for ever: a run that does not end fails its test."""
    alarm = threading.Timer(seconds, run.stop.set)
    alarm.start()
    try:
        return run.go()
    finally:
        assert alarm.is_alive(), f"the run did not end within {seconds} s"
        alarm.cancel()
