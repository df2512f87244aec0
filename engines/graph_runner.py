"""Runs an ONNX on the CPU exactly as it is written: every Q/DQ a rounding, nothing fused away."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime

from trt_lane.errors import TrtLaneError


class GraphRunner:
    """An ONNX Runtime session for checking a graph, not for speed.

    ONNX Runtime's own Q/DQ fusions are off: they requantise where TensorRT does not, and with FP16
    steps they give other numbers (measured: 25 % of the largest output on a ResNet-18).
    """

    def __init__(self, source: Path | bytes, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else str(source),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime raises a dozen types of its own
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            name = "the graph" if isinstance(source, bytes) else source
            raise TrtLaneError(f"ONNX Runtime cannot load {name}: {first}") from None
        self.heads = [output.name for output in self._session.get_outputs()]
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Heads (1, ...) of an image float32 (1, 3, h, w)."""
        return self.run({self._input: image})

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs, of a graph with any inputs."""
        return dict(zip(self.heads, self._session.run(None, inputs), strict=True))
