"""The loop of a run: newest frames of all cameras in, one batch, results out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trt_lane.detector import Detection
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit, check_fit
from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet
from trt_lane.runtime.engine import Engine
from trt_lane.runtime.grabber import Grabber
from trt_lane.runtime.health import Health
from trt_lane.runtime.mailbox import Captured
from trt_lane.runtime.outputs import Output
from trt_lane.runtime.result import Fault, FrameResult
from trt_lane.runtime.watchdog import Watchdog

# How soon a stop, a lost camera or a due health line is seen while no frame comes.
POLL_S = 0.1
# How often a camera without frames is told of.
SILENCE_S = 0.5


@dataclass(frozen=True)
class Limits:
    """What a run keeps to.

    Attributes:
        max_age_ms: results older than that are stale.
        rate_hz: batches per second at most, 0 for no limit.
        frames: results to stop after, 0 for none.
        health_every_s: between two health lines, 0 for none.
    """

    max_age_ms: float = 250.0
    rate_hz: float = 0.0
    frames: int = 0
    health_every_s: float = 10.0


class Run:
    """One run; `go` returns when it is stopped, when its files end, or after so many frames.

    Args:
        grabbers: one per camera.
        arrived: the event of all their mailboxes.
        engine: finds the lanes.
        image, fit: which frames the engine takes.
        outputs: told of every result.
        limits: see there.
        log: takes one line for people.
        watchdog: told that the loop is alive.
        stop: ends the run when it is set.
    """

    def __init__(
        self,
        grabbers: Sequence[Grabber],
        arrived: threading.Event,
        engine: Engine,
        image: ImageSpec,
        fit: Fit,
        outputs: Sequence[Output],
        limits: Limits,
        log: Callable[[str], None],
        watchdog: Watchdog,
        stop: threading.Event | None = None,
    ) -> None:
        self._grabbers, self._arrived, self._engine = grabbers, arrived, engine
        self._image, self._fit, self._outputs = image, fit, list(outputs)
        self._limits, self._log, self._watchdog = limits, log, watchdog
        self.stop = threading.Event() if stop is None else stop
        self.health = Health()
        now = time.monotonic_ns()
        # Results and not frames, which take megabytes.
        nothing = LaneSet.from_lanes([], (0, 0))
        self._last = [
            FrameResult(i, -1, now, now, nothing, Fault.CAMERA_LOST, limits.max_age_ms)
            for i in range(len(grabbers))
        ]
        self._told_ns = [now] * len(grabbers)
        self._due_ns = now
        self._health_ns = now

    def go(self) -> Health:
        """Run."""
        for grabber in self._grabbers:
            grabber.start()
        try:
            while not self.stop.is_set() and not self._is_finished():
                self._watchdog.beat()
                taken = self._take()
                if taken:
                    self._handle(taken)
                self._tell_of_silence()
                self._say_health()
        finally:
            # All are told before one is waited for: together they take no longer than the slowest.
            for grabber in self._grabbers:
                grabber.ask_to_stop()
            for grabber in self._grabbers:
                grabber.stop()
                self._watchdog.beat()
            self._engine.close()
        return self.health

    # -- frames in ------------------------------------------------------------------------------

    def _take(self) -> list[tuple[int, Captured]]:
        """The newest frame of every camera that has one; waits a little when none has."""
        wait_s = (self._due_ns - time.monotonic_ns()) / 1e9
        if wait_s > 0:
            self.stop.wait(min(wait_s, POLL_S))
            return []
        self._arrived.clear()
        taken = [(i, g.mailbox.take()) for i, g in enumerate(self._grabbers)]
        found = [(i, captured) for i, captured in taken if captured is not None]
        if not found:
            self._arrived.wait(POLL_S)
        elif self._limits.rate_hz:
            period_ns = round(1e9 / self._limits.rate_hz)
            self._due_ns = max(self._due_ns + period_ns, time.monotonic_ns() - period_ns)
        return found

    def _is_finished(self) -> bool:
        limit = self._limits.frames
        if limit and self.health.frames >= limit:
            return True
        if not all(g.ended for g in self._grabbers):
            return False
        # The last frame may have come between the look into the mailbox and the end.
        left = [(i, g.mailbox.take()) for i, g in enumerate(self._grabbers)]
        self._handle([(i, captured) for i, captured in left if captured is not None])
        return True

    # -- lanes ----------------------------------------------------------------------------------

    def _handle(self, taken: Sequence[tuple[int, Captured]]) -> None:
        whole = [item for item in taken if self._is_frame(item[1].frame)]
        found: list[Detection] | None = []
        if whole:
            found = self._engine.detect([captured.frame for _, captured in whole])
        finished_ns = time.monotonic_ns()
        by_camera = {} if found is None else dict(zip((i for i, _ in whole), found, strict=True))
        usable = {i for i, _ in whole}
        for camera, captured in taken:
            detection = by_camera.get(camera)
            if detection is not None:
                fault = Fault.NONE if detection.sound else Fault.NOT_FINITE
            else:
                fault = Fault.ENGINE_LOST if camera in usable else Fault.BAD_FRAME
            lanes = detection.lanes if detection is not None else _no_lanes(captured.frame)
            result = self._result(camera, captured, finished_ns, lanes, fault)
            self._last[camera] = result
            if result.fault is Fault.STALE and not self.health.faults[Fault.STALE]:
                self._log(f"stale: a frame took {result.latency_ms:.0f} ms; --max-age allows less")
            self.health.count(result)
            self._publish(result, _picture(captured.frame))

    def _is_frame(self, frame: np.ndarray) -> bool:
        try:
            check_fit(frame, self._image, self._fit)
        except TrtLaneError as error:
            if not self.health.faults[Fault.BAD_FRAME]:
                self._log(f"bad frame: {error}")
            return False
        return True

    def _result(
        self, camera: int, captured: Captured, finished_ns: int, lanes: LaneSet, fault: Fault
    ) -> FrameResult:
        result = FrameResult(
            camera,
            captured.sequence,
            captured.captured_ns,
            finished_ns,
            lanes,
            fault,
            self._limits.max_age_ms,
        )
        # A frame that took too long is stale before anybody has seen it.
        return result.at(finished_ns)

    # -- results out ----------------------------------------------------------------------------

    def _publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        for output in list(self._outputs):
            try:
                output.publish(result, frame)
            except BrokenPipeError:  # the reader of stdout has gone, which ends a program
                raise
            except Exception as error:  # whatever it is, the others still want their lanes
                self.health.output_errors += 1
                self._log(f"{output.name}: {error or type(error).__name__}; it gets nothing more")
                self._outputs.remove(output)
                try:
                    output.close()
                except Exception as second:  # what cannot go on cannot always end, either
                    self._log(f"{output.name} does not close: {second or type(second).__name__}")
            else:
                if output.wants_end:
                    self.stop.set()

    def _tell_of_silence(self) -> None:
        """A camera without frames says so by results without lanes; a file has its own time."""
        now = time.monotonic_ns()
        for camera, grabber in enumerate(self._grabbers):
            if grabber.ended or not grabber.spec.live:
                continue
            last = self._last[camera]
            # Not when one was taken last: a low rate or a slow network leaves frames waiting.
            heard_ns = max(last.captured_ns, grabber.mailbox.newest_ns)
            if now - max(heard_ns, self._told_ns[camera]) < SILENCE_S * 1e9:
                continue
            self._told_ns[camera] = now
            lost = last.without_lanes(Fault.CAMERA_LOST)
            self._publish(replace(lost, finished_ns=now), None)

    def _say_health(self) -> None:
        health = self.health
        health.dropped = sum(g.mailbox.dropped for g in self._grabbers)
        health.cameras_lost = sum(g.lost for g in self._grabbers)
        health.restarts, health.engine_up = self._engine.restarts, self._engine.is_up
        now = time.monotonic_ns()
        period_s = self._limits.health_every_s
        if period_s and now - self._health_ns >= 1e9 * period_s:
            self._health_ns = now
            self._log(health.line())


def _picture(frame: np.ndarray) -> np.ndarray | None:
    """The frame where it is one: what shows or records it must not end for what is none."""
    try:
        ImageSpec.check_pixels(frame)
    except TrtLaneError:
        return None
    return frame


def _no_lanes(frame: object) -> LaneSet:
    shape = getattr(frame, "shape", ())
    return LaneSet.from_lanes([], tuple(shape[:2]) if len(shape) >= 2 else (0, 0))
