"""A CUDA driver that records its calls, and a TensorRT whose engines are ONNX graphs behind it."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

from trt_lane.backends.cuda_driver import CudaDriver

SOURCE = Path(__file__).with_name("recording_cuda.cpp")
CACHE = Path(__file__).resolve().parents[2] / "build" / "recording_cuda"
_CALLBACK = ctypes.CFUNCTYPE(None)
_NO_ENGINE = (InvalidProtobuf, InvalidGraph, Fail)


class Recording:
    """The recording library, and what it says."""

    def __init__(self) -> None:
        self.path = _library()
        self.c = ctypes.CDLL(str(self.path))
        for name in ("log", "violations", "live"):
            getattr(self.c, f"recording_{name}").restype = ctypes.c_char_p
        self.c.recording_enqueue.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _CALLBACK]
        self.c.recording_has.argtypes = [ctypes.c_int, ctypes.c_uint64, ctypes.c_size_t]
        # A graph calls them again as long as it lives.
        self._callbacks: list[object] = []
        self.errors: list[str] = []

    def reset(self, capability: int = 87, integrated: bool = False) -> None:
        self._callbacks.clear()
        self.errors = []
        self.c.recording_reset(capability, int(integrated))

    def driver(self) -> CudaDriver:
        return CudaDriver(library=str(self.path))

    def fail(self, name: str, number: int = 1, code: int = 1) -> None:
        """The `number`-th call of that name from now on fails."""
        self.c.recording_fail(name.encode(), number, code)

    def break_device(self, code: int = 700) -> None:
        self.c.recording_break(code)

    def enqueue(self, stream: int, what: str, call: object) -> bool:
        def guarded() -> None:
            try:
                call()
            except BaseException as error:  # ctypes would swallow it
                self.errors.append(f"{what}: {error!r}")

        callback = _CALLBACK(guarded)
        self._callbacks.append(callback)
        return self.c.recording_enqueue(stream, what.encode(), callback) == 0

    def note(self, what: str) -> None:
        self.c.recording_note(what.encode())

    def array(self, address: int, shape: tuple, dtype: type, on_device: bool = True) -> np.ndarray:
        """What lies at an address, which must be live memory."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert self.c.recording_has(int(on_device), address, size), "an address that is no memory"
        memory = (ctypes.c_char * size).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)

    @property
    def log(self) -> list[str]:
        return self.c.recording_log().decode().split("\n")[:-1]

    @property
    def violations(self) -> list[str]:
        return self.c.recording_violations().decode().split("\n")[:-1]

    @property
    def live(self) -> list[str]:
        return self.c.recording_live().decode().split("\n")[:-1]

    def frame_calls(self, call: object) -> list[str]:
        """What one call of ours makes of the driver, without the context's push and pop."""
        before = len(self.log)
        call()
        return [c for c in self.log[before:] if "Ctx" not in c and "Attribute" not in c]


def _library() -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here to compile the recording driver")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = CACHE / f"{digest}.so"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["g++", *flags, "-o", draft, SOURCE], check=True)
        draft.replace(path)
    return path


def tensorrt(recording: Recording, version: str = "10.3.0", **options: object) -> SimpleNamespace:
    """A module as tensorrt is one, whose engines run in ONNX Runtime when the stream comes to them.

    Args:
        recording: the driver.
        version: of it.
        options: `context=None` for too little memory, `dla_cores`, `half` for FP16 tensors.
    """

    class Context:
        def __init__(self, engine: Engine) -> None:
            self.engine, self.addresses = engine, {}

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert type(address) is int and name in self.engine.shapes
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            assert self.addresses.keys() == self.engine.shapes.keys(), "a tensor has no address"
            addresses = dict(self.addresses)
            # Graphs keep what does the work; neither the context nor the engine lives by that.
            network = self.engine.network
            return recording.enqueue(stream, "engine", lambda: network.work(addresses))

        def __del__(self) -> None:
            recording.note("context destroyed")

    class Network:
        def __init__(self, data: bytes) -> None:
            self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            self.inputs = [i.name for i in self.session.get_inputs()]
            both = (*self.session.get_inputs(), *self.session.get_outputs())
            self.shapes = {t.name: tuple(t.shape) for t in both}
            kind = np.float16 if options.get("half") else np.float32
            self.dtypes = {t.name: np.int32 if "int32" in t.type else kind for t in both}

        def work(self, addresses: dict[str, int]) -> None:
            def tensor(name: str) -> np.ndarray:
                return recording.array(addresses[name], self.shapes[name], self.dtypes[name])

            given = {name: tensor(name).astype(np.float32) for name in self.inputs}
            names = [name for name in self.shapes if name not in self.inputs]
            for name, value in zip(names, self.session.run(names, given), strict=True):
                tensor(name)[...] = value

    class Engine:
        def __init__(self, data: bytes) -> None:
            self.network = Network(data)
            self.shapes = self.network.shapes

        @property
        def num_io_tensors(self) -> int:
            return len(self.shapes)

        def get_tensor_name(self, i: int) -> str:
            return list(self.shapes)[i]

        def get_tensor_shape(self, name: str) -> tuple:
            return self.shapes[name]

        def get_tensor_dtype(self, name: str) -> type:
            return self.network.dtypes[name]

        def get_tensor_mode(self, name: str) -> str:
            return "input" if name in self.network.inputs else "output"

        def create_execution_context(self) -> Context | None:
            return None if options.get("context", 0) is None else Context(self)

        def __del__(self) -> None:
            recording.note("engine destroyed")

    class Runtime:
        num_DLA_cores = options.get("dla_cores", 0)  # noqa: N815 - TensorRT's name

        def __init__(self, logger: object) -> None:
            module.runtimes.append(self)

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            try:
                return Engine(data)
            except _NO_ENGINE:  # TensorRT logs and answers with nothing, too
                return None

    class Logger:
        WARNING = 2

        def __init__(self, level: int) -> None:
            pass

    module = SimpleNamespace(
        runtimes=[],
        __version__=version,
        Logger=Logger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        nptype=lambda dtype: dtype,
    )
    return module
