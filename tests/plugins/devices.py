"""Where the cases of `make gpu-check` run: a GPU through pycuda, or, to try the check, a CPU.

Both have the same few calls, and both are handed addresses: those of device memory or, where the
kernels run on the CPU, those of numpy arrays.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence

import numpy as np
from cases import Case
from running import GARBAGE, compiled, stacked

from trt_lane.compiled_preprocess import CompiledPreprocess
from trt_lane.errors import TrtLaneError
from trt_lane.plugin_library import LaneOutputs, PluginLibrary

LAUNCHES = 20  # in the graph that is timed, so that the CPU's time to launch does not count
REPLAYS = 15


class CudaDevice:
    """A GPU: its memory, one stream and its primary context."""

    def __init__(self, index: int = 0) -> None:
        try:
            import pycuda.driver as cuda

            cuda.init()
            device = cuda.Device(index)
        except Exception as error:  # pycuda raises its own kinds when no driver answers
            raise TrtLaneError(
                f"no NVIDIA GPU answers through pycuda ({error}); with one, run: pip install "
                "pycuda; without one, `make test` runs the kernels on the CPU"
            ) from None
        self._cuda, self._device = cuda, device
        self._context = device.retain_primary_context()
        self._context.push()
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._own = cuda.Stream()
        self.stream = self._own.handle

    def facts(self) -> dict:
        """Name, compute capability, versions and peak bandwidth."""
        attribute = self._cuda.device_attribute
        clock_hz = 1e3 * self._device.get_attribute(attribute.MEMORY_CLOCK_RATE)
        width = self._device.get_attribute(attribute.GLOBAL_MEMORY_BUS_WIDTH) / 8
        major, minor = self._device.compute_capability()
        return {
            "name": self._device.name(),
            "compute_capability": 10 * major + minor,
            "driver": self._cuda.get_driver_version(),
            "multiprocessors": self._device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
            # Two transfers per clock; None where the driver does not say, as on some Jetsons.
            "peak_gb_per_s": 2 * clock_hz * width / 1e9 or None,
        }

    def upload(self, array: np.ndarray) -> object:
        """A copy of the array in device memory; int() of it is its address."""
        memory = self._cuda.mem_alloc(max(array.nbytes, 256))
        self._cuda.memcpy_htod(memory, np.ascontiguousarray(array))
        return memory

    def download(self, memory: object, array: np.ndarray) -> None:
        """Fill the array from device memory, after what the stream has to do."""
        self._own.synchronize()
        self._cuda.memcpy_dtoh(array, memory)

    def in_graph(self, launch: Callable[[], None], times: int = 1) -> Callable[[], None]:
        """Capture launches in a CUDA graph; what is returned replays it on the stream.

        Raises:
            TrtLaneError: the launch allocates, waits or does something else that a graph refuses.
        """
        stream, graph, execution = (ctypes.c_void_p(p) for p in (self.stream, None, None))
        thread_local = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture_v2", stream, thread_local)
        for _ in range(times):
            launch()
        self._call("cuStreamEndCapture", stream, ctypes.byref(graph))
        flags = ctypes.c_ulonglong(0)
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(execution), graph, flags)
        self._call("cuGraphDestroy", graph)
        return lambda: self._call("cuGraphLaunch", execution, stream)

    def microseconds(self, launch: Callable[[], None]) -> list[float]:
        """Time of one launch on the device, by events around a graph of many, REPLAYS times."""
        replay = self.in_graph(launch, LAUNCHES)
        times = []
        for _ in range(REPLAYS + 2):
            begin, end = self._cuda.Event(), self._cuda.Event()
            begin.record(self._own)
            replay()
            end.record(self._own)
            end.synchronize()
            times.append(1e3 * end.time_since(begin) / LAUNCHES)
        return times[2:]

    def close(self) -> None:
        """Let go of the context."""
        self._own.synchronize()
        self._context.pop()
        self._context.detach()

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status:
            raise TrtLaneError(f"{name} gives CUDA error {status}")


class CpuDevice:
    """Stands in for a GPU with a library whose kernels run on the CPU."""

    stream = 0

    def facts(self) -> dict:
        """That it is none."""
        return {"name": "CPU execution", "compute_capability": 0, "peak_gb_per_s": None}

    def upload(self, array: np.ndarray) -> object:
        """A copy of the array."""
        return _Memory(array)

    def download(self, memory: object, array: np.ndarray) -> None:
        """Fill the array."""
        array.view(np.uint8).reshape(-1)[:] = memory.bytes[: array.nbytes]

    def in_graph(self, launch: Callable[[], None], times: int = 1) -> Callable[[], None]:
        """Launches one after the other."""
        return lambda: [launch() for _ in range(times)] and None

    def microseconds(self, launch: Callable[[], None]) -> list[float]:
        """Wall time of two launches."""
        times = []
        for _ in range(2):
            start = time.perf_counter()
            launch()
            times.append(1e6 * (time.perf_counter() - start))
        return times

    def close(self) -> None:
        """Nothing."""


class _Memory:
    def __init__(self, array: np.ndarray) -> None:
        self.bytes = np.frombuffer(array.tobytes() + bytes(256), np.uint8).copy()

    def __int__(self) -> int:
        return self.bytes.ctypes.data


Device = CudaDevice | CpuDevice


class DecoderRun:
    """A decoder's launch on a device, for a batch of cases of one decoder."""

    def __init__(self, device: Device, library: PluginLibrary, cases: Sequence[Case]) -> None:
        self.device, self._decoder = device, compiled(library, cases[0])
        arrays, self._batch, self._half = self._decoder.checked(stacked(cases))
        self._heads = [device.upload(a) for a in arrays]
        outputs = self._empty()
        self._outputs = [device.upload(a) for a in _arrays(outputs)]
        size = self._decoder.workspace_bytes(self._batch)
        self._workspace = device.upload(np.full(size, GARBAGE, np.uint8))
        # Every byte of heads and outputs once: what a launch cannot do without.
        self.bytes = sum(a.nbytes for a in (*arrays, *_arrays(outputs)))

    def launch(self) -> None:
        """Start the kernels."""
        self._decoder.launch(
            [int(h) for h in self._heads],
            self._half,
            self._batch,
            tuple(int(o) for o in self._outputs),
            int(self._workspace),
            self.device.stream,
        )

    def outputs(self) -> LaneOutputs:
        """What the last launch left."""
        found = self._empty()
        for memory, array in zip(self._outputs, _arrays(found), strict=True):
            self.device.download(memory, array)
        return found

    def _empty(self) -> LaneOutputs:
        outputs = LaneOutputs.empty(self._batch, self._decoder.slots, self._decoder.points)
        for array in _arrays(outputs):
            array.view(np.uint8)[...] = GARBAGE
        return outputs


class PreprocessRun:
    """The pre-processing of a batch of frames on a device."""

    def __init__(
        self, device: Device, preprocess: CompiledPreprocess, frames: Sequence[np.ndarray]
    ) -> None:
        self.device, self._preprocess = device, preprocess
        self._frames = [device.upload(frame) for frame in frames]
        self._found = np.empty((len(frames), *preprocess.input_shape), preprocess.dtype)
        self._found.view(np.uint8)[...] = GARBAGE
        self._out = device.upload(self._found)
        self._workspace = device.upload(np.full(preprocess.workspace_bytes, GARBAGE, np.uint8))
        self.bytes = sum(frame.nbytes for frame in frames) + self._found.nbytes

    def launch(self) -> None:
        """Start the kernels."""
        self._preprocess.launch(
            [int(f) for f in self._frames], int(self._out), int(self._workspace), self.device.stream
        )

    def output(self) -> np.ndarray:
        """What the last launch left."""
        self.device.download(self._out, self._found)
        return self._found


def _arrays(outputs: LaneOutputs) -> tuple[np.ndarray, ...]:
    return outputs.points, outputs.scores, outputs.count
