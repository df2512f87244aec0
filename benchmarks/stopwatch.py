"""The shipped detector with a clock around its stages; nothing of it is done differently."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.backends import Backend, open_backend
from trt_lane.detector import LaneDetector
from trt_lane.fit import Fit
from trt_lane.lanes import LaneSet

STAGES = ("preprocess", "network", "decode", "total")
# What a GPU says of the network's call by CUDA events, when it is asked.
DEVICE_STAGES = ("h2d", "network", "d2h")
_TIMER_CALLS = 2000


def timer_cost_ms() -> float:
    """What one reading of the clock takes; a frame has four."""
    times = [time.perf_counter() for _ in range(_TIMER_CALLS)]
    return 1e3 * (times[-1] - times[0]) / (len(times) - 1)


class StopwatchBackend:
    """The shipped backend; notes when its call begins and ends, and changes nothing of it.

    Where the backend takes frames and gives lanes by itself, pre-processing and decoding on the
    device are part of the call.

    Args:
        backend: the shipped one.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.begin = self.end = 0.0

    @property
    def takes_frames(self) -> bool:
        """As the shipped one's."""
        return getattr(self.backend, "takes_frames", False)

    @property
    def has_device_stages(self) -> bool:
        """Whether there is a GPU that can be asked for its own times."""
        return hasattr(self.backend, "time_stages")

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The shipped one's heads of one image."""
        return self._timed(self.backend.infer, image)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The shipped one's heads of a batch."""
        return self._timed(self.backend.run, images)

    def lanes(self, frames: Sequence[np.ndarray]) -> Any:
        """The shipped one's lanes, where it takes frames."""
        return self._timed(self.backend.lanes, frames)

    def close(self) -> None:
        """Close the shipped one."""
        self.backend.close()

    def _timed(self, call: Callable[[Any], Any], argument: Any) -> Any:
        self.begin = time.perf_counter()
        result = call(argument)
        self.end = time.perf_counter()
        return result


class TimedDetector(LaneDetector):
    """The shipped detector with a row of times per frame.

    Args:
        artifact, backend, fit: as LaneDetector's.
        slow_down: that share of a frame's time is added to it by waiting busily, which counts as
            decoding. Only to check that a comparison finds it.

    Attributes:
        rows: milliseconds of every frame, in the order of STAGES.
        begun: when each frame was handed over, seconds of the monotonic clock.
    """

    def __init__(
        self,
        artifact: EngineArtifact,
        backend: StopwatchBackend,
        fit: Fit = Fit.CROP,
        slow_down: float = 0.0,
    ) -> None:
        super().__init__(artifact, backend, fit)
        self._stopwatch = backend
        self._slow_down = slow_down
        self.rows: list[list[float]] = []
        self.begun: list[float] = []

    @classmethod
    def open(
        cls, artifact: EngineArtifact, threads: int | None, slow_down: float = 0.0
    ) -> TimedDetector:
        """With the backend that the artifact was built for."""
        backend = StopwatchBackend(open_backend(artifact, threads))
        return cls(artifact, backend, slow_down=slow_down)

    def detect(self, frame: np.ndarray) -> LaneSet:
        """As shipped, with its times noted."""
        start = time.perf_counter()
        lanes = super().detect(frame)
        end = time.perf_counter()
        if self._slow_down:
            until = end + self._slow_down * (end - start)
            while end < until:
                end = time.perf_counter()
        watch = self._stopwatch
        before, after, whole = watch.begin - start, end - watch.end, end - start
        call = watch.end - watch.begin
        self.rows.append([1e3 * v for v in (before, call, after, whole)])
        self.begun.append(start)
        return lanes

    def device_rows(self, frames: Sequence[np.ndarray]) -> list[list[float]]:
        """Milliseconds of DEVICE_STAGES of each frame; empty without a GPU.

        Asking costs the backend its CUDA graph, so this comes last and counts for nothing else.
        """
        if not self._stopwatch.has_device_stages:
            return []
        backend = self._stopwatch.backend
        backend.time_stages()
        rows = []
        for frame in frames:
            super().detect(frame)
            rows.append([float(backend.stages_ms[name]) for name in DEVICE_STAGES])
        return rows

    def forget(self) -> None:
        """Drop the times so far: warm-up."""
        self.rows, self.begun = [], []
