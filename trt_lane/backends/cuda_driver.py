"""CudaDriver: the few calls of the CUDA driver that an engine needs, by ctypes, and their contract.

Nothing has to be compiled on a vehicle for it, and it uses the device's primary context, in which
PyTorch and every program of the CUDA runtime live, too. The contract, which tests hold against a
library that records every call (tests/backends/recording_cuda.cpp) and `make gpu-check` against a
GPU:

 1. `retain` comes first and `release` last; between them everything but these two happens inside
    `current()`, which leaves the caller's context as it was.
 2. What was made is destroyed once: streams, events, graphs, device and host memory. Nothing is
    used afterwards, and no memory is freed that a stream may still use: `synchronize` comes before.
 3. Host memory of copies is page-locked and lives as long as the graph that copies it.
 4. Between `begin_capture` and `end_capture` only copies, records, kernels and the engine's own
    enqueue go to the stream; nothing waits, allocates or frees.
 5. A call that fails raises DeviceError, and what was made before it is still destroyed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

from trt_lane.errors import TrtLaneError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_OUT_OF_MEMORY = 2
# CUdevice_attribute
_INTEGRATED, _MAPS_HOST, _MAJOR, _MINOR = 18, 19, 75, 76
_NON_BLOCKING, _THREAD_LOCAL = 1, 1
_PORTABLE, _DEVICE_MAP = 1, 2

_SIGNATURES = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuDevicePrimaryCtxRelease_v2": [c_int],
    "cuCtxPushCurrent_v2": [c_void_p],
    "cuCtxPopCurrent_v2": [POINTER(c_void_p)],
    "cuMemGetInfo_v2": [POINTER(c_size_t), POINTER(c_size_t)],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemHostAlloc": [POINTER(c_void_p), c_size_t, c_uint],
    "cuMemHostGetDevicePointer_v2": [POINTER(c_uint64), c_void_p, c_uint],
    "cuMemFreeHost": [c_void_p],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), c_uint],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, POINTER(c_void_p)],
    "cuGraphInstantiateWithFlags": [POINTER(c_void_p), c_void_p, c_uint64],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphExecDestroy": [c_void_p],
    "cuGraphDestroy": [c_void_p],
    "cuEventCreate": [POINTER(c_void_p), c_uint],
    "cuEventRecord": [c_void_p, c_void_p],
    "cuEventElapsedTime": [POINTER(c_float), c_void_p, c_void_p],
    "cuEventDestroy_v2": [c_void_p],
    "cuGetErrorName": [c_int, POINTER(c_char_p)],
}


class DeviceError(TrtLaneError):
    """The driver refused a call.

    Attributes:
        call: name of the function.
        code: CUresult.
    """

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(
            f"the GPU's driver says {name} ({code}) to {call}; see `trt-lane selfcheck`, "
            "and dmesg for what the device reports"
        )
        self.call, self.code = call, code

    @property
    def out_of_memory(self) -> bool:
        """Whether there was too little memory."""
        return self.code == _OUT_OF_MEMORY


class CudaDriver:
    """One device of the driver. Handles and addresses are plain ints.

    Args:
        device: its number.
        library: of the driver; None for the system's.

    Raises:
        TrtLaneError: there is no driver, or no such device.
    """

    def __init__(self, device: int = 0, library: str | None = None) -> None:
        try:
            self._c = ctypes.CDLL(library or LIBRARY)
            for name, arguments in _SIGNATURES.items():
                function = getattr(self._c, name)
                function.argtypes, function.restype = arguments, c_int
        except (OSError, AttributeError) as error:
            raise TrtLaneError(
                f"this engine needs an NVIDIA GPU with its driver ({error}); install the driver, "
                "or make an engine with TARGET=cpu"
            ) from None
        self._context = c_void_p()
        try:
            self._call("cuInit", 0)
            handle = c_int()
            self._call("cuDeviceGet", ctypes.byref(handle), device)
        except DeviceError as error:
            raise TrtLaneError(
                f"this engine needs an NVIDIA GPU, and the driver finds none ({error}); "
                "make an engine with TARGET=cpu"
            ) from None
        self._device = handle.value

    # -- facts --------------------------------------------------------------------------------

    @property
    def compute_capability(self) -> int:
        """87 for sm_87."""
        return 10 * self._attribute(_MAJOR) + self._attribute(_MINOR)

    @property
    def shares_memory(self) -> bool:
        """Whether GPU and CPU have one memory, as on Jetson and DRIVE: then nothing is copied."""
        return bool(self._attribute(_INTEGRATED) and self._attribute(_MAPS_HOST))

    @property
    def version(self) -> str:
        """CUDA version of the driver, "12.6"."""
        number = c_int()
        self._call("cuDriverGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def free_bytes(self) -> int:
        """Device memory that is free."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    # -- context ------------------------------------------------------------------------------

    def retain(self) -> None:
        """Hold the primary context."""
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)

    def release(self) -> None:
        """Let it go; it ends when nobody holds it."""
        self._context = c_void_p()
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    @contextmanager
    def current(self) -> Iterator[None]:
        """The primary context is this thread's; afterwards the one before is again."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(c_void_p()))

    # -- memory -------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        """Device memory."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cuMemFree_v2", address)

    def allocate_host(self, size: int) -> int:
        """Page-locked host memory, which the device can see."""
        address = c_void_p()
        self._call("cuMemHostAlloc", ctypes.byref(address), size, _PORTABLE | _DEVICE_MAP)
        return address.value

    def device_address(self, host: int) -> int:
        """Where the device sees page-locked host memory."""
        address = c_uint64()
        self._call("cuMemHostGetDevicePointer_v2", ctypes.byref(address), host, 0)
        return address.value

    def free_host(self, address: int) -> None:
        """Give page-locked memory back."""
        self._call("cuMemFreeHost", address)

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Begin a copy."""
        self._call("cuMemcpyHtoDAsync_v2", device, host, size, stream)

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Begin a copy."""
        self._call("cuMemcpyDtoHAsync_v2", host, device, size, stream)

    # -- streams, events, graphs --------------------------------------------------------------

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        return self._made("cuStreamCreate", _NON_BLOCKING)

    def synchronize(self, stream: int) -> None:
        """Wait until the stream has done all."""
        self._call("cuStreamSynchronize", stream)

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""
        self._call("cuStreamDestroy_v2", stream)

    def begin_capture(self, stream: int) -> None:
        """From now on the stream notes what it is told instead of doing it."""
        self._call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """A graph of all that was noted, ready to launch."""
        graph = self._made("cuStreamEndCapture", stream, result_last=True)
        try:
            return self._made("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        """End a capture that went wrong, whatever it holds."""
        graph = c_void_p()
        self._c.cuStreamEndCapture(stream, ctypes.byref(graph))
        if graph.value:
            self._call("cuGraphDestroy", graph.value)

    def launch(self, graph: int, stream: int) -> None:
        """Do all of it again."""
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back."""
        self._call("cuGraphExecDestroy", graph)

    def create_event(self) -> int:
        """A point in time of a stream."""
        return self._made("cuEventCreate", 0)

    def record(self, event: int, stream: int) -> None:
        """The event is when the stream comes here."""
        self._call("cuEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two events that have passed."""
        found = c_float()
        self._call("cuEventElapsedTime", ctypes.byref(found), start, end)
        return found.value

    def destroy_event(self, event: int) -> None:
        """Give an event back."""
        self._call("cuEventDestroy_v2", event)

    # -----------------------------------------------------------------------------------------

    def _made(self, name: str, *arguments: int, result_last: bool = False) -> int:
        handle = c_void_p()
        place = ctypes.byref(handle)
        self._call(name, *((*arguments, place) if result_last else (place, *arguments)))
        return handle.value or 0

    def _attribute(self, which: int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, self._device)
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._c, name)(*arguments)
        if code:
            text = c_char_p()
            self._c.cuGetErrorName(code, ctypes.byref(text))
            raise DeviceError(name, code, (text.value or b"an unknown error").decode())
