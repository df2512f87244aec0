"""Frames of another aspect ratio than the model's: refuse, stretch or crop, and map lanes back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet


class Fit(str, Enum):
    """What to do with a frame whose aspect ratio is not the model's."""

    ERROR = "error"  # refuse it
    STRETCH = "stretch"  # keep everything, change the proportions
    CROP = "crop"  # keep the proportions, cut what is too much


@dataclass(frozen=True, eq=False)
class Fitted:
    """A frame that the model takes, and the way back.

    Attributes:
        frame: BGR uint8 of the model's aspect ratio.
        original_hw: size of the frame it came from.
        offset_xy: its left top corner in the original, in pixels.
        scale_xy: original pixels per pixel of `frame`.
    """

    frame: np.ndarray
    original_hw: tuple[int, int]
    offset_xy: tuple[int, int] = (0, 0)
    scale_xy: tuple[float, float] = (1.0, 1.0)

    def to_original(self, lanes: LaneSet) -> LaneSet:
        """Lanes in the pixels of the original frame."""
        moved = lanes.scaled_to(self.frame.shape[:2]).points * np.float32(self.scale_xy)
        return LaneSet(moved + np.float32(self.offset_xy), lanes.scores, self.original_hw)


def fit_frame(frame: np.ndarray, image: ImageSpec, fit: Fit = Fit.ERROR) -> Fitted:
    """Make a frame fit the model's field of view.

    A crop that is too tall loses sky and bonnet: a third of what is too much goes at the bottom,
    the rest at the top, which keeps the horizon about where road data sets have it. A crop that is
    too wide loses the same on both sides.

    Raises:
        TrtLaneError: with Fit.ERROR, when the aspect ratio differs; always, when it is no frame, or
            one of too few pixels to get the model's aspect ratio.
    """
    check_fit(frame, image, fit)
    height, width = frame.shape[:2]
    new_height, new_width = _fitted_hw((height, width), image, fit)
    if (new_height, new_width) == (height, width):
        return Fitted(frame, (height, width))
    if fit is Fit.STRETCH:
        stretched = cv2.resize(frame, (new_width, height), interpolation=cv2.INTER_LINEAR)
        return Fitted(stretched, (height, width), scale_xy=(width / new_width, 1.0))
    top, left = round((height - new_height) * 2 / 3), (width - new_width) // 2
    cut = frame[top : top + new_height, left : left + new_width]
    return Fitted(cut, (height, width), offset_xy=(left, top))


def check_fit(frame: np.ndarray, image: ImageSpec, fit: Fit) -> None:
    """Refuse what `fit_frame` refuses, as it does; nothing is made."""
    image.check_pixels(frame)
    if fit is Fit.ERROR:
        image.check_frame(frame)
        return
    height, width = frame.shape[:2]
    fitted_hw = _fitted_hw((height, width), image, fit)
    # Whole pixels of a tiny frame do not come near enough to any aspect ratio.
    if min(fitted_hw) < 2 or not image.same_view(fitted_hw):
        expected_h, expected_w = image.frame_hw
        raise TrtLaneError(
            f"frame is {width}x{height}, too small to {fit.value} it to the aspect ratio of "
            f"{expected_w}x{expected_h}; expected a camera's frame"
        )


def _fitted_hw(frame_hw: tuple[int, int], image: ImageSpec, fit: Fit) -> tuple[int, int]:
    """Height and width that a frame of that size gets."""
    height, width = frame_hw
    if fit is Fit.ERROR or image.same_view(frame_hw):
        return frame_hw
    wanted_width = round(height * image.frame_hw[1] / image.frame_hw[0])
    if fit is Fit.STRETCH:
        return height, max(2, wanted_width)
    wanted_height = round(width * image.frame_hw[0] / image.frame_hw[1])
    return (wanted_height, width) if wanted_height <= height else (height, wanted_width)
