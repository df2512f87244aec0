"""How long every layer of a CPU engine takes, by ONNX Runtime's own profile."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.backends.onnxruntime import session_options
from trt_lane.files import read_json

RUNS, WARM_UP = 30, 3
_KERNEL = "_kernel_time"


def layer_times(artifact: EngineArtifact, image: np.ndarray, threads: int) -> dict[str, float]:
    """Median milliseconds by the name that the layer table has; in a session of its own.

    The profile's own cost is in it, some microseconds a layer, so the sum is more than a frame's.

    Args:
        artifact: built for ONNX Runtime.
        image: network input float32 (1, 3, h, w).
        threads: as the detector's.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(onnxruntime, threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            str(artifact.engine_path), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(WARM_UP + RUNS):
            session.run(None, {artifact.input_name: image})
        events = read_json(session.end_profiling())
    durations: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            durations[event["name"].removesuffix(_KERNEL)].append(event["dur"] / 1e3)
    return {name: float(np.median(times[WARM_UP:])) for name, times in durations.items()}


def with_times(layers: list[dict[str, Any]], times: dict[str, float]) -> list[dict[str, Any]]:
    """The layer table with `ms`, None where the profile has no layer of that name."""
    return [{**layer, "ms": times.get(layer["name"])} for layer in layers]
