"""The shipped detector with a clock around its stages; nothing of it is done differently."""

from __future__ import annotations

import time

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.backends import Backend, open_backend
from trt_lane.detector import LaneDetector
from trt_lane.fit import Fit
from trt_lane.lanes import LaneSet

CPU_STAGES = ("preprocess", "network", "decode", "total")
# On a GPU the network's call is split by CUDA events; `launch` is what the host adds to them.
GPU_STAGES = ("preprocess", "h2d", "network", "d2h", "launch", "decode", "total")
_TIMER_CALLS = 2000


def timer_cost_ms() -> float:
    """What one reading of the clock takes; a frame has four."""
    times = [time.perf_counter() for _ in range(_TIMER_CALLS)]
    return 1e3 * (times[-1] - times[0]) / (len(times) - 1)


class StopwatchBackend:
    """Notes when the network begins and ends, and what the GPU says of its own stages.

    Args:
        backend: the shipped one.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.begin = self.end = 0.0
        # Only GPU backends have stages of their own.
        self._gpu = hasattr(backend, "time_stages")
        if self._gpu:
            backend.time_stages()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the times that `TimedDetector` notes."""
        return GPU_STAGES if self._gpu else CPU_STAGES

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The shipped one's heads."""
        self.begin = time.perf_counter()
        heads = self.backend.infer(image)
        self.end = time.perf_counter()
        return heads

    def parts_ms(self) -> list[float]:
        """The network's call in the order of `stages`."""
        call = 1e3 * (self.end - self.begin)
        if not self._gpu:
            return [call]
        events = self.backend.stages_ms
        on_gpu = [events[name] for name in ("h2d", "network", "d2h")]
        return [*on_gpu, call - sum(on_gpu)]

    def close(self) -> None:
        """Close the shipped one."""
        self.backend.close()


class TimedDetector(LaneDetector):
    """The shipped detector with a row of times per frame.

    Args:
        artifact, backend, fit: as LaneDetector's.
        slow_down: that share of a frame's time is added to it by waiting busily, which counts as
            decoding. Only to check that a comparison finds it.

    Attributes:
        rows: milliseconds of every frame, in the order of `stages`.
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
        self.stages = backend.stages
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
        self.rows.append([1e3 * before, *watch.parts_ms(), 1e3 * after, 1e3 * whole])
        self.begun.append(start)
        return lanes

    def forget(self) -> None:
        """Drop the times so far: warm-up."""
        self.rows, self.begun = [], []
