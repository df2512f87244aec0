"""Camera frames to the network's input by compiled code: the numbers of ImageSpec.to_tensor."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import Enum

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec, Resampling
from trt_lane.plugin_library import PluginLibrary, field_array

# As in plugins/preprocess/preprocess.yaml.
LARGEST_FRAME = 16384  # rows or columns
LARGEST_PITCH = 131072  # bytes
KEPT_SIZES = 8  # of frames; a camera has one


class Pixels(str, Enum):
    """How a frame's bytes are laid out."""

    BGR = "bgr"
    RGB = "rgb"
    NV12 = "nv12"  # luma rows, then rows of u, v for every two by two pixels
    YUYV = "yuyv"  # y, u, y, v for every two pixels


_BYTES_PER_PIXEL = {Pixels.BGR: 3, Pixels.RGB: 3, Pixels.NV12: 1, Pixels.YUYV: 2}


class CompiledPreprocess:
    """Crop, resize, colour order, mean and std for frames of one size and format.

    Attributes:
        library: what it is compiled in.
        input_shape: (3, h, w) of the network input.
        dtype: of the network input.
        frame_shape: of a frame's uint8 array, rows of `pitch` bytes.
    """

    def __init__(
        self,
        library: PluginLibrary,
        image: ImageSpec,
        frame_hw: tuple[int, int] | None = None,
        pixels: Pixels | str = Pixels.BGR,
        dtype: type = np.float32,
        *,
        pitch: int = 0,
        scale: float = 1.0,
    ) -> None:
        """Make it for one camera format.

        Args:
            library: host or CUDA library.
            image: geometry and normalisation.
            frame_hw: size of the frames, of the spec's aspect ratio; default the spec's own.
            pixels: their format.
            dtype: float32, float16 or int8.
            pitch: bytes from row to row, 0 for rows without padding.
            scale: of an int8 input: pixels become round(x / scale) in -128..127.

        Raises:
            TrtLaneError: numbers that do not fit each other.
        """
        self.library, self._handle = library, None
        height, width = frame_hw or image.frame_hw
        if not image.same_view((height, width)):
            raise TrtLaneError(
                f"frames are {width}x{height}; expected the aspect ratio of "
                f"{image.frame_hw[1]}x{image.frame_hw[0]}"
            )
        pixels, self.dtype = Pixels(pixels), np.dtype(dtype)
        fields = {
            "frame_hw": (height, width),
            "pitch": pitch,
            "pixels": pixels.value,
            "input_hw": image.input_hw,
            "mean": image.mean,
            "std": image.std,
            "order": image.order.value,
            "crop_top": round(image.crop_top * height / image.frame_hw[0]),
            "resized_crop_top": image.resized_crop_top,
            "resampling": image.resampling.value,
            "output": str(self.dtype),
            "scale": scale,
        }
        self._handle = library.c.trt_lane_preprocess_make(*field_array(fields))
        if not self._handle:
            raise TrtLaneError(library.error())
        self.input_shape = (3, *image.input_hw)
        rows = height * 3 // 2 if pixels is Pixels.NV12 else height
        self.frame_shape = (rows, pitch or width * _BYTES_PER_PIXEL[pixels])

    def __call__(self, frames: Sequence[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
        """Network input (N, 3, h, w) of N frames, on the host.

        Args:
            frames: uint8 each, (H, W, 3) for bgr and rgb, or rows of bytes as in frame_shape.
            out: where to put it, contiguous and of `dtype`.
        """
        if out is None:
            out = np.empty((len(frames), *self.input_shape), self.dtype)
        expected = (len(frames), *self.input_shape)
        if out.shape != expected or out.dtype != self.dtype or not out.flags.carray:
            raise ValueError(
                f"out is {out.dtype} {out.shape}; expected {self.dtype} {expected}, contiguous, "
                "aligned and writeable"
            )
        arrays = [self._checked(frame) for frame in frames]
        self.run([array.ctypes.data for array in arrays], out.ctypes.data)
        return out

    def run(self, frames: Sequence[int], out: int) -> None:
        """The same on addresses: of each frame's first byte, and of the network input."""
        data = (ctypes.c_void_p * len(frames))(*frames)
        if self.library.c.trt_lane_preprocess_run(self._handle, data, None, len(frames), out):
            raise TrtLaneError(self.library.error())

    def launch(self, frames: Sequence[int], out: int, workspace: int, stream: int) -> None:
        """Start the kernels on a stream; all are addresses on the device.

        Args:
            frames: first byte of each frame.
            out: (N, 3, h, w) of `dtype`.
            workspace: of workspace_bytes.
            stream: CUDA stream's handle.
        """
        data = (ctypes.c_void_p * len(frames))(*frames)
        status = self.library.c.trt_lane_preprocess_launch(
            self._handle, data, None, len(frames), out, workspace, stream
        )
        if status:
            raise TrtLaneError(f"CUDA error {status}: {self.library.error()}")

    @property
    def workspace_bytes(self) -> int:
        """Bytes of device memory that a launch needs beside its input and output."""
        return self.library.c.trt_lane_preprocess_workspace(self._handle)

    def _checked(self, frame: np.ndarray) -> np.ndarray:
        """A frame as contiguous rows of bytes."""
        array = np.ascontiguousarray(frame)
        if array.dtype != np.uint8 or array.reshape(len(array), -1).shape != self.frame_shape:
            raise ValueError(
                f"frame is {array.dtype} {np.shape(frame)}; expected uint8, {self.frame_shape[0]} "
                f"rows of {self.frame_shape[1]} bytes"
            )
        return array

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.library.c.trt_lane_preprocess_free(self._handle)


class InputMaker:
    """ImageSpec.to_tensor into memory that is there, by compiled code where that gives its numbers.

    Frames of any size come; what is made for a size and pitch is kept for the next ones.
    """

    def __init__(self, image: ImageSpec, library: PluginLibrary | None) -> None:
        """Make it.

        Args:
            image: geometry and normalisation.
            library: host or CUDA library, or None for numpy and OpenCV.
        """
        self._image = image
        # OpenCV's cubic filter rounds in float32, in another way from processor to processor.
        exact = image.resampling is not Resampling.CUBIC
        self._library = library if exact else None
        self._made: dict[tuple[int, int, int], CompiledPreprocess] = {}

    def __call__(self, frame: np.ndarray, out: np.ndarray) -> None:
        """Fill the float32 (3, h, w) network input from a BGR uint8 frame (H, W, 3).

        Raises:
            TrtLaneError: not a frame, or not of the spec's aspect ratio.
        """
        self._image.check_frame(frame)
        row, pixel, channel = frame.strides
        if self._library is None or not self._takes(frame.shape, out):
            self._image.to_tensor(frame, out)
            return
        if (pixel, channel) != (3, 1) or not 3 * frame.shape[1] <= row <= LARGEST_PITCH:
            frame = np.ascontiguousarray(frame)
            row = frame.strides[0]
        compiled = self._compiled(frame.shape[:2], row)
        compiled.run([frame.ctypes.data], out.ctypes.data)

    @staticmethod
    def _takes(shape: tuple[int, ...], out: np.ndarray) -> bool:
        return max(shape) <= LARGEST_FRAME and out.flags.carray and out.dtype == np.float32

    def _compiled(self, frame_hw: tuple[int, int], pitch: int) -> CompiledPreprocess:
        key = (*frame_hw, pitch)
        if key not in self._made:
            if len(self._made) == KEPT_SIZES:
                self._made.clear()
            self._made[key] = CompiledPreprocess(self._library, self._image, frame_hw, pitch=pitch)
        return self._made[key]
