"""ONNX Runtime on the CPU: runs float graphs and the integer graphs of engines.cpu_graph."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from pathlib import Path

import numpy as np

from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError

# More than any vehicle has cores; a system that cannot start so many ends the process.
MAX_THREADS = 1024


class OnnxRuntimeBackend:
    """A session on the CPU.

    Args:
        artifact: verified; its engine is an ONNX file.
        threads: 1 to MAX_THREADS, or None for as many as ONNX Runtime finds cores.
    """

    def __init__(self, artifact: EngineArtifact, threads: int | None = None) -> None:
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise TrtLaneError(f"threads is {threads}; expected 1 to {MAX_THREADS}")
        try:
            import onnxruntime
        except ImportError as error:
            raise TrtLaneError(
                f"onnxruntime does not load here ({error}); run: pip install onnxruntime"
            ) from None
        artifact.check_runtime(onnxruntime.__version__)
        self._heads = {h.name: h.shape for h in artifact.heads}
        self._input_name = artifact.input_name
        self._input_shape = (artifact.batch, 3, *artifact.image.input_hw)
        try:
            self._session = onnxruntime.InferenceSession(
                str(artifact.engine_path), session_options(onnxruntime, threads),
                providers=["CPUExecutionProvider"],
            )  # fmt: skip
        except Exception as error:  # onnxruntime's errors share no base class
            raise TrtLaneError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {artifact.engine_path}: "
                f"{error}; run: {artifact.make_command}"
            ) from None
        self._check_tensors(artifact)
        _give_memory_back()

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Heads by name, float32 without the batch axis, of a float32 (1, 3, h, w) image."""
        return {k: v[0] for k, v in self.run(image).items()}

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Heads by name, float32 (batch, ...), of float32 (batch, 3, h, w) images."""
        if self._session is None:
            raise TrtLaneError("the engine was closed; open it again")
        if images.shape != self._input_shape or images.dtype != np.float32:
            raise TrtLaneError(
                f"network input is {images.dtype} {images.shape}; expected float32 "
                f"{self._input_shape}"
            )
        found = self._session.run(list(self._heads), {self._input_name: images})
        return dict(zip(self._heads, found, strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _check_tensors(self, artifact: EngineArtifact) -> None:
        inputs = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        outputs = {o.name: tuple(o.shape) for o in self._session.get_outputs()}
        wanted = {name: (artifact.batch, *shape) for name, shape in self._heads.items()}
        missing = [k for k, shape in wanted.items() if outputs.get(k) != shape]
        if inputs != {self._input_name: self._input_shape} or missing:
            raise TrtLaneError(
                f"{artifact.engine_path} has inputs {inputs} and outputs {outputs}; its sidecar "
                f"says {self._input_name} {self._input_shape} and {wanted}; "
                f"run: {artifact.make_command}"
            )


def session_options(onnxruntime: object, threads: int | None) -> object:
    """What a vehicle runs with: so many threads, none of them spinning, exact sums."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # a vehicle's log is for the vehicle
    # Waiting threads that spin take the cores that decoding and capture need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not multiplies_exactly(platform.machine(), _cpu_flags()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _give_memory_back() -> None:
    """Hand what loading has freed back to the system (measured: 20 MB of 185 for UFLD's 45 MB).

    glibc keeps it for allocations that never come; other C libraries have no such call.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def multiplies_exactly(machine: str, flags: str) -> bool:
    """Whether the CPU's kernels for uint8 x int8 sum their products without overflow.

    x86 without VNNI adds two products in 16 bits, which saturates; ONNX Runtime has exact kernels
    for it, three times slower than VNNI, so they are asked for only there.

    Args:
        machine: platform.machine().
        flags: text of /proc/cpuinfo, "" where there is none.
    """
    if machine.lower() not in ("x86_64", "amd64"):
        return True
    return "avx512_vnni" in flags or "avx_vnni" in flags


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
