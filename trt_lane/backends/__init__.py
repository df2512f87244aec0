"""What executes an engine: ONNX Runtime on the CPU, TensorRT and TensorRT-RTX on the GPU."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError


class FrameNotTakenError(TrtLaneError):
    """The device's pre-processing does not take frames of that size; the host's does."""


class Backend(Protocol):
    """A loaded engine. It holds device memory or threads until `close`, and serves one caller."""

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Run an engine that takes one image.

        Args:
            image: float32 (1, 3, h, w), normalised as the artifact's ImageSpec says.

        Returns:
            Heads by name, float32 without the batch axis. They are the caller's to keep.
        """
        ...

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run an engine of any batch: float32 (batch, 3, h, w) to heads float32 (batch, ...)."""
        ...

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        ...


def open_backend(artifact: EngineArtifact, threads: int | None = None) -> Backend:
    """Load the engine with the runtime that it was built for.

    Args:
        artifact: verified by EngineArtifact.load.
        threads: CPU threads of ONNX Runtime; None for as many as there are cores.

    Raises:
        TrtLaneError: the runtime is not installed, of another version, or on another device.
    """
    if artifact.runtime == "onnxruntime":
        from trt_lane.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(artifact, threads)
    from trt_lane.backends.tensorrt import TensorRtBackend

    return TensorRtBackend(artifact)
