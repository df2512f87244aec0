"""LaneDetector: load an engine once, then frame in, lanes out."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.backends import Backend, open_backend
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit, fit_frame
from trt_lane.lanes import LaneSet


class LaneDetector:
    """A loaded engine with its geometry and decoder; a context manager.

    It serves one thread at a time: buffers are made once and used for every frame.
    """

    def __init__(self, artifact: EngineArtifact, backend: Backend, fit: Fit = Fit.ERROR) -> None:
        self.artifact = artifact
        self.fit = Fit(fit)
        self._backend: Backend | None = backend
        self._decoder = artifact.make_decoder()
        self._input = np.empty((1, 3, *artifact.image.input_hw), np.float32)

    @classmethod
    def load(
        cls, path: Path | str, *, threads: int | None = None, fit: Fit | str = Fit.ERROR
    ) -> LaneDetector:
        """Verify an artifact and load its engine.

        Args:
            path: the artifact's folder, its sidecar or its engine.
            threads: CPU threads of ONNX Runtime; None for as many as there are cores.
            fit: what to do with frames of another aspect ratio than the model's.

        Raises:
            TrtLaneError: damaged or changed files, another runtime, another device.
        """
        try:
            chosen = Fit(fit)
        except ValueError:
            known = ", ".join(f.value for f in Fit)
            raise TrtLaneError(f"fit is {fit!r}; expected one of {known}") from None
        artifact = EngineArtifact.load(path)
        return cls(artifact, open_backend(artifact, threads), chosen)

    def detect(self, frame: np.ndarray) -> LaneSet:
        """The lanes of a BGR uint8 frame (H, W, 3), in that frame's own pixels.

        Heads with NaN or infinity give no lanes.

        Raises:
            TrtLaneError: not a frame, an aspect ratio that `fit` refuses, or a closed detector.
        """
        fitted = fit_frame(frame, self.artifact.image, self.fit)
        heads = self._infer(fitted.frame)
        if not all(np.isfinite(head).all() for head in heads.values()):
            return LaneSet.from_lanes([], frame.shape[:2])
        return fitted.to_original(self._decoder(**heads))

    def heads(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        """The network's raw outputs by head, float32 without the batch axis, for comparisons."""
        return self._infer(fit_frame(frame, self.artifact.image, self.fit).frame)

    def _infer(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        if self._backend is None:
            raise TrtLaneError("the detector was closed; load it again")
        self._input[0] = self.artifact.image.to_tensor(frame)
        return self._backend.infer(self._input)

    def close(self) -> None:
        """Free the engine; a second call does nothing."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> LaneDetector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
