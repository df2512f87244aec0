"""TensorRT's and TensorRT-RTX's Python modules: found, and asked for what both have."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError


def load_runtime(artifact: EngineArtifact) -> Any:
    """The module that runs the artifact; a TrtLaneError says how to get it."""
    advice = {
        "tensorrt": "on Jetson and DRIVE TensorRT comes with the system; use its Python",
        "tensorrt_rtx": "run: pip install tensorrt-rtx-cu13",
    }[artifact.runtime]
    try:
        return import_module(artifact.runtime)
    except (ImportError, OSError) as error:
        raise TrtLaneError(
            f"this engine needs {artifact.runtime}, which does not load here ({error}); {advice}, "
            f"or make one for the CPU: make engine MODEL={artifact.model} TARGET=cpu"
        ) from None


class LoadedEngine:
    """An engine with its context; both belong to the CUDA context that is current.

    Args:
        trt: the module.
        artifact: verified.

    Raises:
        TrtLaneError: the engine does not load, or is not what the sidecar says.

    Attributes:
        context: None when there was not memory enough for one.
    """

    def __init__(self, trt: Any, artifact: EngineArtifact) -> None:
        self._trt, self._artifact = trt, artifact
        self._logger = trt.Logger(trt.Logger.WARNING)
        plugins = _load_plugins(trt, self._logger, artifact)
        self._runtime = trt.Runtime(self._logger)
        _choose_dla(self._runtime, artifact)
        self._engine = self._runtime.deserialize_cuda_engine(artifact.engine_path.read_bytes())
        if self._engine is None:
            raise TrtLaneError(
                f"{artifact.runtime} {trt.__version__} cannot load {artifact.engine_path}{plugins};"
                f" run: {artifact.make_command}"
            )
        self.context = self._engine.create_execution_context()

    def tensors(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of every tensor that needs an address, by name.

        Raises:
            TrtLaneError: they are not those of the sidecar.
        """
        # No local name for the engine: the traceback of an error would keep it alive, longer than
        # the context that it lives in.
        artifact, batch = self._artifact, self._artifact.batch
        wanted = {artifact.input_name: (batch, 3, *artifact.image.input_hw)}
        wanted |= {h.name: (batch, *h.shape) for h in artifact.heads}
        found, inputs = {}, []
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            found[name] = tuple(self._engine.get_tensor_shape(name)), dtype
            if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT:
                inputs.append(name)
        shapes = {name: shape for name, (shape, _) in found.items()}
        # Outputs that no head names still need an address, or the engine does not run.
        if inputs != [artifact.input_name] or any(shapes.get(k) != v for k, v in wanted.items()):
            raise TrtLaneError(
                f"{artifact.engine_path} has inputs {', '.join(inputs)} and tensors {shapes}; its "
                f"sidecar says {artifact.input_name} and {wanted}; run: {artifact.make_command}"
            )
        return found

    def close(self) -> None:
        """Let go: the context before its engine, the engine before its runtime."""
        self.context = None
        self._engine = None
        self._runtime = None


def _load_plugins(trt: Any, logger: Any, artifact: EngineArtifact) -> str:
    """Register the plugins that nodes of the graph may need; what went wrong, for an error.

    A library without TensorRT's side still has the kernels that run behind an engine.
    """
    if artifact.plugin_path is None or not hasattr(trt, "get_plugin_registry"):
        return ""
    trt.init_libnvinfer_plugins(logger, "")
    if trt.get_plugin_registry().load_library(str(artifact.plugin_path)) is None:
        return f" (nor the plugins of {artifact.plugin_path}, if it has nodes for them)"
    return ""


def _choose_dla(runtime: Any, artifact: EngineArtifact) -> None:
    """Put an engine that was built for a DLA onto the core that its sidecar names."""
    core = artifact.info.get("dla_core")
    if core is None:
        return
    cores = getattr(runtime, "num_DLA_cores", 0)
    if type(core) is not int or not 0 <= core < cores:
        raise TrtLaneError(
            f"{artifact.engine_path} is for DLA core {core!r}, this {artifact.runtime} has "
            f"{cores}; run: {artifact.make_command}"
        )
    runtime.DLA_core = core
