"""ImageSpec: the one place where frame geometry and normalisation are defined."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum

import cv2
import numpy as np

from trt_lane._resample import antialiased_resize
from trt_lane.errors import TrtLaneError

# Two frames show the same field of view when their aspect ratios agree this closely.
ASPECT_TOLERANCE = 0.02
# Rows or columns of any frame or network input.
LARGEST_PX = 65_535


class ChannelOrder(str, Enum):
    """Order of the colour channels that the network was trained on."""

    RGB = "RGB"
    BGR = "BGR"


class Resampling(str, Enum):
    """How the frame is brought to the network's size."""

    LINEAR = "linear"  # cv2.INTER_LINEAR: two taps per axis whatever the scale
    CUBIC = "cubic"  # cv2.INTER_CUBIC: what imgaug's Resize does
    ANTIALIASED = "antialiased"  # Pillow's BILINEAR (torchvision's Resize): triangle over the scale


@dataclass(frozen=True)
class ImageSpec:
    """From camera frame to network input.

    frame -> cut `crop_top` rows -> resize to (h + resized_crop_top, w) -> cut `resized_crop_top`
    rows -> channel order -> (pixel / 255 - mean) / std.

    Attributes:
        frame_hw: height, width of the frames the model was trained on; lanes are in its pixels.
        input_hw: height, width of the network input.
        mean, std: per channel in the network's channel order, on pixels scaled to [0, 1].
        order: channel order of the network; frames are always BGR.
        crop_top: rows cut off the top of the frame before the resize.
        resized_crop_top: rows cut off the top after the resize (UFLDv2 crops there).
        resampling: the resize filter of the model's training code.
    """

    frame_hw: tuple[int, int]
    input_hw: tuple[int, int]
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    order: ChannelOrder = ChannelOrder.RGB
    crop_top: int = 0
    resized_crop_top: int = 0
    resampling: Resampling = Resampling.LINEAR

    def __post_init__(self) -> None:
        for name, length in (("frame_hw", 2), ("input_hw", 2), ("mean", 3), ("std", 3)):
            value = tuple(getattr(self, name))
            if len(value) != length:
                raise ValueError(f"ImageSpec.{name} is {value}; expected {length} numbers")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "order", ChannelOrder(self.order))
        object.__setattr__(self, "resampling", Resampling(self.resampling))
        for name in ("frame_hw", "input_hw"):
            value = getattr(self, name)
            if not all(_is_whole(size) and 1 <= size <= LARGEST_PX for size in value):
                raise ValueError(f"ImageSpec.{name} is {value}; expected 1 to {LARGEST_PX} px")
        for name in ("crop_top", "resized_crop_top"):
            if not _is_whole(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected whole rows")
        if not 0 <= self.crop_top < self.frame_hw[0]:
            raise ValueError(f"crop_top is {self.crop_top}; expected 0..{self.frame_hw[0] - 1}")
        if not 0 <= self.resized_crop_top <= LARGEST_PX:
            raise ValueError(
                f"resized_crop_top is {self.resized_crop_top}; expected 0..{LARGEST_PX}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and min(self.std) > 0):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite, std positive")

    def check_frame(self, frame: np.ndarray) -> None:
        """Refuse what is not a BGR uint8 frame of the spec's field of view (any resolution)."""
        self.check_pixels(frame)
        height, width = frame.shape[:2]
        if not self.same_view((height, width)):
            expected_h, expected_w = self.frame_hw
            raise TrtLaneError(
                f"frame is {width}x{height}; expected {expected_w}x{expected_h} or another "
                "resolution of the same aspect ratio; stretch or crop it first (--fit does)"
            )

    @staticmethod
    def check_pixels(frame: np.ndarray) -> None:
        """Refuse what is not a BGR uint8 frame, whatever its size."""
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
            found = getattr(frame, "dtype", type(frame).__name__), getattr(frame, "shape", "")
            raise TrtLaneError(f"frame is {found[0]} {found[1]}; expected uint8 (H, W, 3) BGR")
        height, width, channels = frame.shape
        if channels != 3 or height < 2 or width < 2:
            raise TrtLaneError(
                f"frame has shape {frame.shape}; expected (H, W, 3) BGR of 2x2 pixels or more"
            )

    def same_view(self, frame_hw: tuple[int, int]) -> bool:
        """Whether a frame of that size has the spec's aspect ratio."""
        ratio = (frame_hw[1] / frame_hw[0]) / (self.frame_hw[1] / self.frame_hw[0])
        return abs(ratio - 1) <= ASPECT_TOLERANCE

    def to_tensor(self, frame: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Network input float32 (3, h, w) of a BGR uint8 frame (H, W, 3), in `out` if given."""
        self.check_frame(frame)
        pixels = self.resize(frame)
        if self.order is ChannelOrder.RGB:
            pixels = pixels[:, :, ::-1]
        scale, offset = self.affine()
        planes = np.empty((3, *self.input_hw), np.float32) if out is None else out
        planes[:] = pixels.transpose(2, 0, 1)
        planes *= scale[:, None, None]
        planes += offset[:, None, None]
        return planes

    def resize(self, frame: np.ndarray) -> np.ndarray:
        """The network's uint8 view (h, w, 3) of the frame, still BGR."""
        top = round(self.crop_top * frame.shape[0] / self.frame_hw[0])
        height, width = self.input_hw[0] + self.resized_crop_top, self.input_hw[1]
        cut = frame[top:]
        if self.resampling is Resampling.ANTIALIASED:
            resized = antialiased_resize(cut, (height, width))
        else:
            cubic = self.resampling is Resampling.CUBIC
            taps = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
            resized = cv2.resize(cut, (width, height), interpolation=taps)
        return resized[self.resized_crop_top :]

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Per-channel scale and offset, float32 (3,): input = pixel * scale + offset."""
        mean, std = np.float64(self.mean), np.float64(self.std)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def points_to_frame(self, points: np.ndarray) -> np.ndarray:
        """Network-input pixels (..., 2) to frame pixels, by the field's plain scaling."""
        height = self.input_hw[0] + self.resized_crop_top
        scale_x = self.frame_hw[1] / self.input_hw[1]
        scale_y = (self.frame_hw[0] - self.crop_top) / height
        moved = np.asarray(points, np.float32) + np.float32([0, self.resized_crop_top])
        return moved * np.float32([scale_x, scale_y]) + np.float32([0, self.crop_top])

    def to_dict(self) -> dict:
        """Plain numbers and strings, for the sidecar."""
        return {k: v.value if isinstance(v, Enum) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, numbers: dict) -> ImageSpec:
        """The inverse of `to_dict`; lists become tuples."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in numbers.items()})


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
