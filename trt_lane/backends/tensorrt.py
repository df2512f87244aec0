"""TensorRT 10.3 to 11.x and TensorRT-RTX: named tensors, one stream, pinned buffers made once.

The device's primary context is used, not pycuda.autoinit's own: PyTorch and other libraries of the
process live in the primary one, and an engine of another context fails beside them.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError


class TensorRtBackend:
    """An engine on GPU `device`, with its context, stream and buffers."""

    def __init__(self, artifact: EngineArtifact, device: int = 0) -> None:
        self._closed = True
        self._events: list[Any] = []
        trt = _load(artifact)
        cuda = _load_cuda()
        self._cuda, self._artifact = cuda, artifact
        handle = cuda.Device(device)
        major, minor = handle.compute_capability()
        artifact.check_runtime(trt.__version__, 10 * major + minor)
        self._primary = handle.retain_primary_context()
        self._closed = False
        try:
            with self._current():
                self._open(trt)
        except BaseException:
            self.close()
            raise

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Heads by name, float32 without the batch axis, of a float32 (1, 3, h, w) image."""
        if self._closed:
            raise TrtLaneError("the engine was closed; open it again")
        if image.shape != self._input.host.shape or image.dtype != np.float32:
            raise TrtLaneError(
                f"network input is {image.dtype} {image.shape}; expected float32 "
                f"{self._input.host.shape}"
            )
        with self._current():
            np.copyto(self._input.host, image, casting="same_kind")
            self._mark(0)
            self._cuda.memcpy_htod_async(self._input.device, self._input.host, self._stream)
            self._mark(1)
            if not self._context.execute_async_v3(self._stream.handle):
                raise TrtLaneError(
                    f"{self._artifact.runtime} could not run {self._artifact.engine_path}; "
                    "see its log on stderr"
                )
            self._mark(2)
            for head in self._heads.values():
                self._cuda.memcpy_dtoh_async(head.host, head.device, self._stream)
            self._mark(3)
            self._stream.synchronize()
        return {k: head.host[0].astype(np.float32) for k, head in self._heads.items()}

    def time_stages(self) -> None:
        """From now on the GPU notes when its stages begin and end."""
        with self._current():
            self._events = [self._cuda.Event() for _ in range(4)]

    @property
    def stages_ms(self) -> dict[str, float]:
        """What the last frame took on the GPU, by CUDA events: h2d, network, d2h."""
        if not self._events:
            raise ValueError("no stages were timed; call time_stages() first")
        with self._current():
            pairs = zip(self._events, self._events[1:], strict=False)
            times = [end.time_since(start) for start, end in pairs]
        return dict(zip(("h2d", "network", "d2h"), times, strict=True))

    def _mark(self, number: int) -> None:
        if self._events:
            self._events[number].record(self._stream)

    def close(self) -> None:
        """Free buffers, context, engine and the hold on the primary context, in that order."""
        if self._closed:
            return
        self._closed = True
        with self._current():
            for name in (
                "_events",
                "_unread",
                "_heads",
                "_input",
                "_context",
                "_engine",
                "_runtime",
                "_stream",
            ):
                self.__dict__.pop(name, None)
        self._primary.detach()

    def _open(self, trt: Any) -> None:
        artifact = self._artifact
        self._logger = trt.Logger(trt.Logger.WARNING)
        _load_plugins(trt, self._logger, artifact)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(artifact.engine_path.read_bytes())
        if self._engine is None:
            raise TrtLaneError(
                f"{artifact.runtime} {trt.__version__} cannot load {artifact.engine_path}; "
                f"run: {artifact.make_command}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise TrtLaneError(
                f"not enough GPU memory for {artifact.engine_path} "
                f"({self._cuda.mem_get_info()[0] >> 20} MiB free); end other programs"
            )
        self._stream = self._cuda.Stream()
        self._input = self._bind(trt, artifact.input_name, (1, 3, *artifact.image.input_hw))
        self._heads = {h.name: self._bind(trt, h.name, (1, *h.shape)) for h in artifact.heads}
        self._bind_rest(trt)

    def _bind(self, trt: Any, name: str, expected: tuple[int, ...] | None) -> _Buffer:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        shape = tuple(self._engine.get_tensor_shape(name)) if name in names else None
        if shape is None or (expected is not None and shape != expected):
            raise TrtLaneError(
                f"{self._artifact.engine_path} has tensors {', '.join(names)}; its sidecar says "
                f"{name} {expected}, found {shape}; run: {self._artifact.make_command}"
            )
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        buffer = _Buffer(self._cuda, shape, dtype)
        self._context.set_tensor_address(name, int(buffer.device))
        return buffer

    def _bind_rest(self, trt: Any) -> None:
        """Outputs that no head names still need an address, or the engine does not run."""
        self._unread: list[_Buffer] = []
        known = {self._artifact.input_name, *self._heads}
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            if name in known:
                continue
            if self._engine.get_tensor_mode(name) != trt.TensorIOMode.OUTPUT:
                raise TrtLaneError(
                    f"{self._artifact.engine_path} has a second input {name!r}, which its sidecar "
                    f"does not know; run: {self._artifact.make_command}"
                )
            self._unread.append(self._bind(trt, name, None))

    @contextmanager
    def _current(self) -> Any:
        self._primary.push()
        try:
            yield
        finally:
            self._primary.pop()


class _Buffer:
    """Page-locked host memory and device memory of one tensor."""

    def __init__(self, cuda: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.host = cuda.pagelocked_empty(shape, dtype)
        self.device = cuda.mem_alloc(self.host.nbytes)


def _load(artifact: EngineArtifact) -> Any:
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


def _load_cuda() -> Any:
    try:
        cuda = import_module("pycuda.driver")
        cuda.init()
    except Exception as error:  # pycuda raises its own kinds when no driver answers
        raise TrtLaneError(
            f"this engine needs an NVIDIA GPU with its driver and pycuda ({error}); "
            "run: pip install pycuda, or make an engine with TARGET=cpu"
        ) from None
    return cuda


def _load_plugins(trt: Any, logger: Any, artifact: EngineArtifact) -> None:
    if artifact.plugin_path is None:
        return
    trt.init_libnvinfer_plugins(logger, "")
    if trt.get_plugin_registry().load_library(str(artifact.plugin_path)) is None:
        raise TrtLaneError(
            f"cannot load the plugins {artifact.plugin_path}; build them on this device: "
            "make plugins"
        )
