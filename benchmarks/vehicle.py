"""What the runtime of a vehicle costs beside its network, and whether it stays what it is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.backends import Backend, open_backend
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit
from trt_lane.runtime.engine import Engine
from trt_lane.runtime.grabber import Grabber
from trt_lane.runtime.loop import Limits, Run
from trt_lane.runtime.result import FrameResult
from trt_lane.runtime.source import SourceSpec
from trt_lane.runtime.watchdog import Watchdog

WARM_UP = 10
# Frames between two looks at the memory; of each window the smallest counts.
LOOK_EVERY = 20
ROOT = Path(__file__).resolve().parents[1]


class TimedBackend:
    """The shipped backend with a clock around its calls; everything else is the backend's own.

    On a GPU that takes frames a call holds copies, pre-processing and decoder, too: all that the
    device does.

    Attributes:
        last_ms: of the last call.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend, self.last_ms = backend, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        return self._timed(found) if name in ("infer", "run", "lanes") else found

    def _timed(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def timed(argument: Any) -> Any:
            start = time.perf_counter()
            result = call(argument)
            self.last_ms = 1e3 * (time.perf_counter() - start)
            return result

        return timed


@dataclass
class Notes:
    """An output of a run that notes times and memory.

    Attributes:
        latencies_ms: capture to result, of every valid frame.
        network_ms: of that the backend's call.
        lows: smallest resident bytes in each third of the frames.
    """

    backend: TimedBackend
    frames: int
    latencies_ms: list[float] = field(default_factory=list)
    network_ms: list[float] = field(default_factory=list)
    lows: list[int] = field(default_factory=lambda: [sys.maxsize] * 3)
    seen: int = 0
    name = "notes"
    wants_end = False

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Take one result into account; lists stay short, so that they are no growth."""
        third = min(3 * self.seen // self.frames, 2)
        self.seen += 1
        if self.seen % LOOK_EVERY == 0:
            self.lows[third] = min(self.lows[third], resident_bytes())
        if result.valid and len(self.latencies_ms) < 2000:
            self.latencies_ms.append(result.latency_ms)
            self.network_ms.append(self.backend.last_ms)

    def close(self) -> None:
        """Nothing is open."""


def measure_run(
    artifact: EngineArtifact, spec: SourceSpec, frames: int, threads: int | None
) -> dict[str, Any]:
    """Run so many frames of a video in a loop, as `trt-lane run --loop --frames` does.

    Returns:
        Median milliseconds of a frame (capture to result), of its network, of the rest and its
        share of the network; bytes by which memory grew per frame, from the second to the last
        third.
    """
    backends: list[TimedBackend] = []

    def opener() -> LaneDetector:
        backends.append(TimedBackend(open_backend(artifact, threads)))
        return LaneDetector(artifact, backends[-1], Fit.CROP)

    log: list[str] = []
    engine = Engine(opener, log.append)
    notes = Notes(backends[0], frames)
    arrived = threading.Event()
    grabber = Grabber(spec, arrived, keep_all=True, loop=True)
    limits = Limits(max_age_ms=60_000, frames=frames, health_every_s=0)
    watchdog = Watchdog(0, log.append)
    run = Run(
        [grabber], arrived, engine, artifact.image, Fit.CROP, [notes], limits, log.append, watchdog
    )
    start = time.monotonic()
    health = run.go()
    seconds = time.monotonic() - start
    if health.restarts or len(notes.latencies_ms) <= WARM_UP:
        raise TrtLaneError(f"the run did not go well: {health.line()} {' '.join(log)}")
    latency = np.array(notes.latencies_ms[WARM_UP:])
    network = np.array(notes.network_ms[WARM_UP:])
    rest = float(np.median(latency - network))
    return {
        "frames": health.frames,
        "invalid": health.invalid,
        "seconds": round(seconds, 2),
        "frame_ms": float(np.median(latency)),
        "network_ms": float(np.median(network)),
        "rest_ms": rest,
        "rest_of_network": rest / float(np.median(network)),
        "resident_mb": [round(low / 1e6, 2) for low in notes.lows],
        "growth_bytes_per_frame": (notes.lows[2] - notes.lows[1]) / (frames / 3),
    }


def decoded(path: Path, frames: int = 30) -> SourceSpec:
    """The first frames of a video, held in memory: the decoder of the file is not ours to time."""
    capture = cv2.VideoCapture(str(path))
    held = []
    while len(held) < frames:
        whole, frame = capture.read()
        if not whole:
            break
        held.append(frame)
    capture.release()
    if not held:
        raise TrtLaneError(f"{path} is not a video that OpenCV can decode")

    class Held:
        def __init__(self) -> None:
            self.left = iter(held)

        def read(self) -> np.ndarray | None:
            return next(self.left, None)

        def close(self) -> None:
            pass

    return SourceSpec(str(path), False, Held)


def first_lanes(artifact: Path, video: Path, threads: int | None) -> dict[str, Any]:
    """Start `trt-lane run` anew and wait for its first line: seconds, memory, what was loaded."""
    words = ["--video", str(video.resolve()), "--json", "--loop", "--max-age", "60000"]
    command = [sys.executable, "-m", "trt_lane", "run", str(artifact.resolve()), *words]
    command += [] if threads is None else ["--threads", str(threads)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        start = time.monotonic()
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            line = child.stdout.readline()
            seconds = time.monotonic() - start
            if not line:
                last = (child.stderr.read().strip().splitlines() or ["nothing"])[-1]
                raise TrtLaneError(f"no first lanes: {last}")
            for _ in range(20):
                child.stdout.readline()
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
            maps = Path(f"/proc/{child.pid}/maps").read_text(encoding="utf-8")
        finally:
            child.kill()
            child.wait()
    return {
        "first_lanes_s": round(seconds, 3),
        "resident_mb": round(_field(status, "VmRSS"), 1),
        "peak_mb": round(_field(status, "VmHWM"), 1),
        "torch": "libtorch" in maps,
    }


def resident_bytes() -> int:
    """Of this process."""
    text = Path("/proc/self/statm").read_text(encoding="ascii")
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _field(status: str, name: str) -> float:
    """Megabytes of a line of /proc/…/status."""
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024 / 1e6
