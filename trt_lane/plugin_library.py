"""Compiled decoders: find and load their library, or say how to build it.

libtrt_lane_host.so and libtrt_lane_plugins.so have one C interface (plugins/host.h). The first
needs only a C++ compiler and gives the numpy decoders' results on a CPU, faster; the second has
the CUDA kernels, too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet

ABI = 2
HOST_NAME, PLUGINS_NAME = "libtrt_lane_host.so", "libtrt_lane_plugins.so"
# A library elsewhere than where `make plugins` puts it.
VARIABLE = "TRT_LANE_PLUGINS"
FOLDER = Path(__file__).resolve().parents[1] / "build" / "plugins"
MAX_RANK = 8

# Names of the plugins' outputs in an ONNX and an engine.
LANE_OUTPUTS = ("lane_points", "lane_scores", "lane_count")
# Bits of LaneOutputs.count[:, 1], as in plugins/common/decoder.h.
LANES_DROPPED, POINTS_DROPPED, CANDIDATES_DROPPED, UNSOUND = 1, 2, 4, 8


def find_library(name: str) -> Path | None:
    """The library of that name where `make plugins` and `make plugins-host` put it, or None.

    The variable TRT_LANE_PLUGINS, where it is set, names a file or a folder instead.
    """
    given = os.environ.get(VARIABLE)
    if given:
        path = Path(given).expanduser()
        path = path / name if path.is_dir() else path
        if not path.is_file():
            raise TrtLaneError(f"{VARIABLE} is {given}, where no {name} lies; run: make plugins")
        return path
    path = FOLDER / name
    return path if path.is_file() else None


def find_host_library() -> PluginLibrary | None:
    """What decodes on the CPU: the host library, else the plugins', else None for numpy."""
    path = find_library(HOST_NAME) or find_library(PLUGINS_NAME)
    return None if path is None else PluginLibrary(path)


def load_plugins(path: Path | None = None) -> PluginLibrary:
    """The library with the kernels.

    Args:
        path: its file; None looks where `find_library` does.

    Raises:
        TrtLaneError: it is not there, or has no kernels.
    """
    found = find_library(PLUGINS_NAME) if path is None else path
    if found is None:
        raise TrtLaneError(f"no {PLUGINS_NAME} in {FOLDER}; run: make plugins")
    library = PluginLibrary(found)
    if not library.has_kernels:
        raise TrtLaneError(f"{found} was built for a CPU; run: make plugins")
    return library


class PluginLibrary:
    """A loaded library and the decoders in it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.c = ctypes.CDLL(str(self.path.resolve()))
            self._declare()
        except (OSError, AttributeError) as error:
            raise TrtLaneError(f"cannot load {path}: {error}; run: make plugins") from None
        found = self.c.trt_lane_abi()
        if found != ABI:
            raise TrtLaneError(f"{path} has interface {found}, expected {ABI}; run: make plugins")
        self.decoders = tuple(self.c.trt_lane_decoders().decode().split())
        self.has_kernels = bool(self.c.trt_lane_has_kernels())

    def help(self, decoder: str) -> str:
        """What a decoder takes, one line per field."""
        return self._text(self.c.trt_lane_help(decoder.encode()))

    def make(
        self,
        numbers: Mapping[str, Any],
        head_shapes: Mapping[str, tuple[int, ...]] | None = None,
        **more: Any,
    ) -> CompiledDecoder:
        """The compiled twin of a numpy decoder.

        Args:
            numbers: decoder_to_dict of it.
            head_shapes: of its heads, without the batch axis; for decoders that take a head of any
                size.
            more: what only the plugin knows, as slots.

        Raises:
            TrtLaneError: numbers out of range or a decoder that the library does not have.
        """
        values = {**numbers, **more}
        name = values.pop("name")
        for field in self._text(self.c.trt_lane_fields(name.encode())).split():
            sizes = self.c.trt_lane_sizes_of(name.encode(), field.encode()).decode().split()
            if sizes and field not in values and head_shapes is not None:
                shape = head_shapes.get(sizes[0])  # None: an optional head
                values[field] = [shape[int(axis)] if shape else 0 for axis in sizes[1:]]
        handle = self.c.trt_lane_make(name.encode(), *field_array(values))
        if not handle:
            raise TrtLaneError(self.error())
        return CompiledDecoder(self, handle, tuple(values.get("frame_hw", (0, 0))))

    def error(self) -> str:
        """Why the last call of this thread failed."""
        return self.c.trt_lane_error().decode()

    def _text(self, found: bytes | None) -> str:
        if found is None:
            raise TrtLaneError(self.error())
        return found.decode()

    def _declare(self) -> None:
        pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
        outputs = [pointer, pointer, pointer]
        for name, result, arguments in (
            ("abi", integer, []),
            ("error", text, []),
            ("has_kernels", integer, []),
            ("decoders", text, []),
            ("help", text, [text]),
            ("fields", text, [text]),
            ("sizes_of", text, [text, text]),
            ("make", pointer, [text, ctypes.POINTER(_Field), integer]),
            ("free", None, [pointer]),
            ("slots", integer, [pointer]),
            ("points", integer, [pointer]),
            ("heads", integer, [pointer]),
            ("head_name", text, [pointer, integer]),
            ("head_shape", integer, [pointer, integer, pointer]),
            ("workspace", ctypes.c_size_t, [pointer, integer]),
            ("decode", integer, [pointer, pointer, integer, integer, *outputs]),
            ("launch", integer, [pointer, pointer, integer, integer, *outputs, pointer, pointer]),
            ("preprocess_make", pointer, [ctypes.POINTER(_Field), integer]),
            ("preprocess_free", None, [pointer]),
            ("preprocess_workspace", ctypes.c_size_t, [pointer]),
            ("preprocess_run", integer, [pointer, pointer, pointer, integer, pointer]),
            ("preprocess_launch", integer, [pointer] * 3 + [integer] + [pointer] * 3),
        ):
            function = getattr(self.c, f"trt_lane_{name}")
            function.restype, function.argtypes = result, arguments


@dataclass(frozen=True, eq=False)
class LaneOutputs:
    """A plugin's outputs for a batch.

    Attributes:
        points: float32 (N, slots, points, 2), x then y in frame pixels, NaN where there is none.
        scores: float32 (N, slots), 0 in slots without a lane.
        count: int32 (N, 2), lanes and overflow bits.
    """

    points: np.ndarray
    scores: np.ndarray
    count: np.ndarray

    @classmethod
    def empty(cls, batch: int, slots: int, points: int) -> LaneOutputs:
        """Room for the outputs; nothing is set."""
        return cls(
            np.empty((batch, slots, points, 2), np.float32),
            np.empty((batch, slots), np.float32),
            np.empty((batch, 2), np.int32),
        )

    def sound(self, frame: int) -> bool:
        """Whether no head of that frame of the batch holds NaN or infinity."""
        return not self.count[frame, 1] & UNSOUND

    def lanes(self, frame: int, frame_hw: tuple[int, int]) -> LaneSet:
        """The lanes of one frame of the batch."""
        count = self.count[frame, 0]
        return LaneSet(self.points[frame, :count], self.scores[frame, :count], frame_hw)


class CompiledDecoder:
    """A decoder of a library with its numbers; called like its twin in trt_lane/decoders.

    Attributes:
        head_shapes: shape of each head by name, without the batch axis, in the library's order.
        slots, points: lanes in the outputs, and points of each.
    """

    def __init__(self, library: PluginLibrary, handle: int, frame_hw: tuple[int, int]) -> None:
        self._library, self._handle, self._frame_hw = library, handle, frame_hw
        c = self._c = library.c
        self.slots, self.points = c.trt_lane_slots(handle), c.trt_lane_points(handle)
        self.head_shapes = {}
        for i in range(c.trt_lane_heads(handle)):
            sizes = (ctypes.c_int64 * MAX_RANK)()
            rank = c.trt_lane_head_shape(handle, i, sizes)
            name = c.trt_lane_head_name(handle, i).decode()
            self.head_shapes[name] = tuple(sizes[:rank])
        # ctypes makes a type anew, at the price of several decodings, unless somebody keeps it.
        self._head_addresses = ctypes.c_void_p * len(self.head_shapes)

    def __call__(self, **heads: np.ndarray) -> LaneSet:
        """The lanes of one frame from its heads, float32 or float16 without the batch axis."""
        return self.decode({k: np.asarray(v)[None] for k, v in heads.items()}).lanes(
            0, self._frame_hw
        )

    def decode(self, heads: Mapping[str, np.ndarray]) -> LaneOutputs:
        """Outputs of a batch on the host; heads (N, ...), all float16 or else float32."""
        arrays, batch, half = self.checked(heads)
        outputs = LaneOutputs.empty(batch, self.slots, self.points)
        given = self._head_addresses(*map(_address, arrays))
        status = self._c.trt_lane_decode(self._handle, given, half, batch, *_addresses(outputs))
        if status:
            raise TrtLaneError(self._library.error())
        return outputs

    def launch(
        self,
        heads: list[int],
        half: bool,
        batch: int,
        outputs: tuple[int, int, int],
        workspace: int,
        stream: int,
    ) -> None:
        """Start the kernels on a stream; all are addresses on the device.

        Args:
            heads: in the order of head_shapes.
            half: whether they are float16.
            batch: frames.
            outputs: points, scores and count.
            workspace: of workspace_bytes(batch) bytes, or 0 when that is 0.
            stream: CUDA stream's handle.
        """
        if len(heads) != len(self.head_shapes):  # ctypes would fill up with null pointers
            raise ValueError(f"{len(heads)} heads; expected {', '.join(self.head_shapes)}")
        given = self._head_addresses(*heads)
        status = self._c.trt_lane_launch(
            self._handle, given, half, batch, *outputs, workspace, stream
        )
        if status:
            raise TrtLaneError(f"CUDA error {status}: {self._library.error()}")

    def workspace_bytes(self, batch: int) -> int:
        """Bytes of device memory that a launch needs beside its inputs and outputs."""
        return self._c.trt_lane_workspace(self._handle, batch)

    def checked(self, heads: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], int, bool]:
        """Heads in the library's order, contiguous and aligned; batch size; whether float16."""
        if heads.keys() != self.head_shapes.keys():
            raise ValueError(
                f"heads are {', '.join(heads)}; expected {', '.join(self.head_shapes)}"
            )
        given = [np.asarray(heads[name]) for name in self.head_shapes]
        half = all(head.dtype == np.float16 for head in given)
        kind = np.float16 if half else np.float32
        arrays = [np.ascontiguousarray(head, kind) for head in given]
        arrays = [array if array.flags.aligned else array.copy() for array in arrays]
        batch = len(arrays[0])
        for array, (name, shape) in zip(arrays, self.head_shapes.items(), strict=True):
            if array.shape != (batch, *shape):
                raise ValueError(f"{name} has shape {array.shape[1:]}; expected {shape}")
        return arrays, batch, half

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._c.trt_lane_free(self._handle)


def field_array(values: Mapping[str, Any]) -> tuple[ctypes.Array, int]:
    """Field values for the C interface, and their number."""
    # A field keeps the memory that it points to; its copy in the array does not.
    keep = [_Field.of(name, value) for name, value in values.items()]
    fields = (_Field * len(keep))(*keep)
    fields.keep = keep
    return fields, len(keep)


# Lies over a buffer, also an empty one, to say where it begins.
_NOTHING = ctypes.c_char * 0


class _Field(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("numbers", ctypes.POINTER(ctypes.c_double)),
        ("count", ctypes.c_int32),
        ("text", ctypes.c_char_p),
    ]

    @classmethod
    def of(cls, name: str, value: Any) -> _Field:
        if isinstance(value, str):
            return cls(name.encode(), None, 0, value.encode())
        numbers = [float(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
        return cls(name.encode(), (ctypes.c_double * len(numbers))(*numbers), len(numbers), None)


def _addresses(outputs: LaneOutputs) -> tuple[int, int, int]:
    return _address(outputs.points), _address(outputs.scores), _address(outputs.count)


def _address(array: np.ndarray) -> int:
    if array.flags.writeable:  # a third of the time, but only of contiguous memory to write to
        return ctypes.addressof(_NOTHING.from_buffer(array))
    return array.__array_interface__["data"][0]  # array.ctypes makes several objects for it
