"""DeviceStages: pre-processing and decoding on the GPU, by the kernels of the plugin library."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.compiled_preprocess import CompiledPreprocess
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec
from trt_lane.plugin_library import CompiledDecoder, PluginLibrary


class DeviceStages(Protocol):
    """What runs before and behind an engine, on its stream; it allocates and waits for nothing.

    Attributes:
        slots, points: of the decoder's outputs.
    """

    slots: int
    points: int

    def prepare(self, image: ImageSpec, frame_hw: tuple[int, int], dtype: np.dtype) -> int:
        """From now on frames have that size; the bytes of workspace that it takes."""
        ...

    def preprocess(self, frames: list[int], out: int, workspace: int, stream: int) -> None:
        """Network input (N, 3, h, w) at `out`, of BGR frames at addresses of the device."""
        ...

    def workspace_bytes(self, batch: int) -> int:
        """What `decode` takes."""
        ...

    def decode(
        self, heads: dict[str, int], half: bool, batch: int, outputs: tuple[int, int, int],
        workspace: int, stream: int,
    ) -> None:  # fmt: skip
        """Points, scores and count (with UNSOUND) at `outputs`, of heads on the device."""
        ...


class PluginStages:
    """The kernels of libtrt_lane_plugins.so."""

    def __init__(self, library: PluginLibrary, decoder: CompiledDecoder) -> None:
        self._library, self._decoder = library, decoder
        self._preprocess: CompiledPreprocess | None = None
        self.slots, self.points = decoder.slots, decoder.points

    def prepare(self, image: ImageSpec, frame_hw: tuple[int, int], dtype: np.dtype) -> int:
        """Make the pre-processing of that size; raises TrtLaneError when it cannot be."""
        self._preprocess = CompiledPreprocess(self._library, image, frame_hw, dtype=dtype.type)
        return self._preprocess.workspace_bytes

    def preprocess(self, frames: list[int], out: int, workspace: int, stream: int) -> None:
        """Start the kernels."""
        if self._preprocess is None:
            raise ValueError("prepare() comes first")
        self._preprocess.launch(frames, out, workspace, stream)

    def workspace_bytes(self, batch: int) -> int:
        """Of the decoder."""
        return self._decoder.workspace_bytes(batch)

    def decode(
        self, heads: dict[str, int], half: bool, batch: int, outputs: tuple[int, int, int],
        workspace: int, stream: int,
    ) -> None:  # fmt: skip
        """Start the kernels."""
        ordered = [heads[name] for name in self._decoder.head_shapes]
        self._decoder.launch(ordered, half, batch, outputs, workspace, stream)


def open_stages(artifact: EngineArtifact) -> PluginStages | None:
    """The kernels of the artifact's own library; None when it has none for its decoder."""
    if artifact.plugin_path is None:
        return None
    library = PluginLibrary(artifact.plugin_path)
    if not library.has_kernels or artifact.decoder["name"] not in library.decoders:
        return None
    try:
        decoder = library.make(artifact.decoder, {h.name: h.shape for h in artifact.heads})
    except TrtLaneError:  # numbers beyond the plugin's limits: numpy has none
        return None
    return PluginStages(library, decoder)
