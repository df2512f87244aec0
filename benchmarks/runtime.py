"""The float graph against the INT8 engine in ONNX Runtime: the same frames in turn, per stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.float_graph import check_float_graph
from benchmarks.stopwatch import STAGES, TimedDetector
from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError
from trt_lane.metrics.bootstrap import drawn_frames, interval

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
    floats = as_float(artifact, float_onnx)
    with (
        TimedDetector.open(artifact, threads) as ours,
        TimedDetector.open(floats, threads) as them,
    ):
        for number, frame in enumerate(frames):
            order = (them, ours) if number % 2 else (ours, them)
            for _ in range(1 if number else WARM_UP):
                for detector in order:
                    detector.detect(frame)
        return Comparison(threads, _latencies(them), _latencies(ours))


def as_float(artifact: EngineArtifact, float_onnx: Path) -> EngineArtifact:
    """The artifact with the float graph as its engine: the same geometry, heads and decoder."""
    if artifact.runtime != RUNTIME:
        raise TrtLaneError(
            f"{artifact.engine_path} is for {artifact.runtime}; expected an engine for ONNX "
            f"Runtime; run: make engine MODEL={artifact.model} TARGET=cpu"
        )
    check_float_graph(float_onnx, artifact)
    return replace(artifact, folder=float_onnx.parent, engine=float_onnx.name, precision="fp32")


def _latencies(detector: TimedDetector) -> Latencies:
    """Of all frames but the repeats of the first, which warmed caches and kernels up."""
    rows = np.array(detector.rows[WARM_UP - 1 :])
    if not len(rows):
        raise TrtLaneError("no frame to measure on; expected 1 or more")
    return Latencies({stage: rows[:, i] for i, stage in enumerate(STAGES)})
