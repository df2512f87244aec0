"""Measure an engine's latency: new processes until time, count and noise conditions are met."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.latency import Latency, Start, spread
from benchmarks.stopwatch import timer_cost_ms
from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json
from trt_lane.frame_results import spread_indices

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Conditions:
    """When a measurement is long enough: all of seconds, frames and noise, or a limit.

    Attributes:
        threads: CPU threads of ONNX Runtime.
        starts: new processes at least. They are what a comparison counts: frames of one process
            share its memory layout and its moment, so a thousand of them are hardly more than one.
        most_starts: at most, however noisy.
        seconds: measured time of all starts together.
        noise: half the 95 % interval of the mean of the starts' medians, over their median.
        slow_down: share added to every frame; only to check that a comparison finds it.
    """

    threads: int
    starts: int = 6
    most_starts: int = 12
    seconds: float = 18.0
    noise: float = 0.02
    slow_down: float = 0.0

    def __post_init__(self) -> None:
        if self.threads < 1 or self.starts < 1 or self.most_starts < self.starts:
            raise TrtLaneError(
                f"threads {self.threads}, starts {self.starts} of at most {self.most_starts}; "
                "expected 1 or more of each, and not more starts than at most"
            )
        if not (0 < self.seconds <= 86400 and 0 < self.noise < 10 and 0 <= self.slow_down < 10):
            raise TrtLaneError(
                f"seconds {self.seconds}, noise {self.noise}, slow-down {self.slow_down}; "
                "expected above 0 (slow-down: 0 or more)"
            )

    def to_dict(self) -> dict:
        """Plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Subject:
    """An engine with the code that runs it.

    Attributes:
        artifact: verified.
        conditions: when to stop.
        code: repository whose detector is measured.
    """

    artifact: EngineArtifact
    conditions: Conditions
    code: Path = ROOT

    def __post_init__(self) -> None:
        if not (self.code / "benchmarks" / "measure_child.py").is_file():
            raise TrtLaneError(f"no trt_lane code in {self.code}; expected its repository")


def measure(
    subjects: Sequence[Subject],
    frames: Sequence[np.ndarray],
    capture_ms: Sequence[float] = (),
) -> list[Latency]:
    """Times of engines in the shipped detector; of several the starts take turns.

    Args:
        subjects: which go forwards and backwards by turns (ABBA), so that a machine that becomes
            slower favours none. All go on until the noisiest is done.
        frames: BGR uint8, all of one size; gone through again and again.
        capture_ms: what reading each frame took, for the report.
    """
    if not frames:
        raise TrtLaneError("no frame to measure on; expected 1 or more")
    starts: list[list[Start]] = [[] for _ in subjects]
    stages: list[Sequence[str]] = [()] * len(subjects)
    with tempfile.TemporaryDirectory(prefix="trt_lane_bench_") as folder:
        _save(np.stack(frames), Path(folder) / "frames.npy")
        turn = 0
        while not all(_enough(s, x.conditions) for s, x in zip(starts, subjects, strict=True)):
            order = range(len(subjects))
            for i in reversed(order) if turn % 2 else order:
                stages[i], start = _start(subjects[i], Path(folder))
                starts[i].append(start)
            turn += 1
    timer, capture = timer_cost_ms(), np.asarray(capture_ms)
    pairs = zip(stages, starts, strict=True)
    return [Latency(tuple(names), tuple(found), timer, capture) for names, found in pairs]


def _save(frames: np.ndarray, path: Path) -> None:
    try:
        np.save(path, frames)
    except OSError as error:  # numpy's has no number by which a full disk could be told
        raise TrtLaneError(
            f"cannot write {path}: {error.strerror or error}; free {frames.nbytes >> 20} MB there, "
            "or name another folder by TMPDIR"
        ) from None


def child_environment() -> dict[str, str]:
    """For a measuring process: threads are those that it makes itself."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, "1")}


def _enough(starts: list[Start], conditions: Conditions) -> bool:
    if len(starts) < conditions.starts:
        return False
    if len(starts) >= conditions.most_starts:
        return True
    medians = np.array([np.median(start.ms[:, -1]) for start in starts])
    return len(starts) < 2 or spread(medians) <= conditions.noise


def _start(subject: Subject, folder: Path) -> tuple[list[str], Start]:
    artifact, conditions = subject.artifact, subject.conditions
    out = folder / "start.json"
    words = {
        "artifact": str(artifact.folder.resolve()),
        "frames": str(folder / "frames.npy"),
        "out": str(out),
        "threads": conditions.threads,
        "seconds": conditions.seconds / conditions.starts,
        "slow_down": conditions.slow_down,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure_child", json.dumps(words)],
        cwd=subject.code,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise TrtLaneError(f"a new process cannot measure {artifact.folder}: {last}")
    values = read_json(out)
    return values.pop("stages"), Start(**values)


def read_frames(dataset: object, count: int) -> tuple[list[np.ndarray], list[float], list[int]]:
    """Frames spread over a data set, what reading each took in ms, and their indices.

    Frames of another size than the first are left out: a camera has one size.
    """
    indices = spread_indices(len(dataset), count)
    frames, times, kept = [], [], []
    for index in indices:
        start = time.perf_counter()
        frame = dataset.frame(index)
        elapsed = 1e3 * (time.perf_counter() - start)
        if not frames or frame.shape == frames[0].shape:
            frames.append(frame)
            times.append(elapsed)
            kept.append(index)
    return frames, times, kept
