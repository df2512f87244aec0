"""The float graph against the INT8 engine in ONNX Runtime: the same frames in turn, per stage."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.bootstrap import drawn_frames, interval
from trt_lane.artifact import EngineArtifact
from trt_lane.backends import Backend, open_backend
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit

STAGES = ("preprocess", "network", "decode", "total")
WARM_UP = 3
RUNTIME = "onnxruntime"


@dataclass(frozen=True, eq=False)
class Latencies:
    """Milliseconds of every frame by stage: name -> (frames,)."""

    ms: dict[str, np.ndarray]

    def to_dict(self) -> dict:
        """p50 and p99 per stage."""
        return {
            stage: {f"p{q}_ms": float(np.percentile(values, q)) for q in (50, 99)}
            for stage, values in self.ms.items()
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Float and INT8 on the same frames with as many threads."""

    threads: int
    float_graph: Latencies
    int8_engine: Latencies

    def ratio(self, stage: str) -> tuple[float, float, float]:
        """INT8's median over float's, below 1 where INT8 is faster, with its 95 % interval."""
        ours, floats = self.int8_engine.ms[stage], self.float_graph.ms[stage]
        drawn = drawn_frames(len(ours))  # the same frames for both: they were run in turn
        draws = np.median(ours[drawn], axis=1) / np.median(floats[drawn], axis=1)
        return (float(np.median(ours) / np.median(floats)), *interval(draws))

    def to_dict(self) -> dict:
        """Plain numbers."""
        ratios = {stage: self.ratio(stage) for stage in STAGES}
        return {
            "threads": self.threads,
            "float": self.float_graph.to_dict(),
            "int8": self.int8_engine.to_dict(),
            "ratio": {s: {"value": v, "low": a, "high": b} for s, (v, a, b) in ratios.items()},
        }


def compare(
    artifact: EngineArtifact, float_onnx: Path, frames: Iterable[np.ndarray], threads: int
) -> Comparison:
    """Time both detectors frame by frame; which one goes first alternates.

    Args:
        artifact: built for the CPU.
        float_onnx: FP32 graph of the same network.
        frames: BGR uint8 (H, W, 3) of any aspect ratio; another than the model's is cropped.
        threads: of ONNX Runtime.

    Raises:
        TrtLaneError: an engine for a GPU, a graph of another network, or no frame.
    """
    with _timed(artifact, threads) as ours, _timed(as_float(artifact, float_onnx), threads) as them:
        for number, frame in enumerate(frames):
            order = (them, ours) if number % 2 else (ours, them)
            for _ in range(1 if number else WARM_UP):
                for detector in order:
                    detector.detect(frame)
        return Comparison(threads, them.latencies(), ours.latencies())


def as_float(artifact: EngineArtifact, float_onnx: Path) -> EngineArtifact:
    """The artifact with the float graph as its engine: the same geometry, heads and decoder."""
    if artifact.runtime != RUNTIME:
        raise TrtLaneError(
            f"{artifact.engine_path} is for {artifact.runtime}; expected an engine for ONNX "
            f"Runtime; run: make engine MODEL={artifact.model} TARGET=cpu"
        )
    if not float_onnx.is_file():
        raise TrtLaneError(f"no float ONNX {float_onnx}; run: make engine MODEL={artifact.model}")
    return replace(artifact, folder=float_onnx.parent, engine=float_onnx.name, precision="fp32")


def _timed(artifact: EngineArtifact, threads: int) -> _TimedDetector:
    backend = _StopwatchBackend(open_backend(artifact, threads))
    return _TimedDetector(artifact, backend, Fit.CROP)


class _StopwatchBackend:
    """Notes when the network begins and ends; the rest of the detector is the shipped one."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.begin = self.end = 0.0

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self.begin = time.perf_counter()
        heads = self.backend.infer(image)
        self.end = time.perf_counter()
        return heads

    def close(self) -> None:
        self.backend.close()


class _TimedDetector(LaneDetector):
    """The shipped detector with a row of times per frame."""

    def __init__(self, artifact: EngineArtifact, backend: _StopwatchBackend, fit: Fit) -> None:
        super().__init__(artifact, backend, fit)
        self._stopwatch = backend
        self._rows: list[Sequence[float]] = []

    def detect(self, frame: np.ndarray) -> object:
        start = time.perf_counter()
        lanes = super().detect(frame)
        end = time.perf_counter()
        begun, ended = self._stopwatch.begin, self._stopwatch.end
        self._rows.append((begun - start, ended - begun, end - ended, end - start))
        return lanes

    def latencies(self) -> Latencies:
        """Of all frames but the repeats of the first, which warmed caches and kernels up."""
        rows = np.array(self._rows[WARM_UP - 1 :])
        if not len(rows):
            raise TrtLaneError("no frame to measure on; expected 1 or more")
        return Latencies({stage: 1e3 * rows[:, i] for i, stage in enumerate(STAGES)})
