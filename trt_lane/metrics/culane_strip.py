"""The pixels of one lane as the CULane evaluator draws it, cut to where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trt_lane.metrics.culane_spline import spline_points

FRAME_HW = (590, 1640)
WIDTH_PX = 30
# What x86 makes of NaN or of a float beyond int32 when it is rounded to a pixel.
NO_PIXEL = np.iinfo(np.int32).min


@dataclass(frozen=True, eq=False)
class Strip:
    """The pixels of one drawn lane: its mask cut to where it lies."""

    mask: np.ndarray  # uint8 (h, w), 1 on the lane
    top: int
    left: int
    area_px: int

    def iou(self, other: Strip) -> float:
        """Intersection over union; NaN when both are empty."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.mask.shape[0], other.top + other.mask.shape[0])
        right = min(self.left + self.mask.shape[1], other.left + other.mask.shape[1])
        shared_px = 0
        if top < bottom and left < right:
            window = (top, bottom, left, right)
            shared_px = cv2.countNonZero(cv2.bitwise_and(self._cut(*window), other._cut(*window)))
        union_px = self.area_px + other.area_px - shared_px
        return shared_px / union_px if union_px else float("nan")

    def _cut(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        return self.mask[top - self.top : bottom - self.top, left - self.left : right - self.left]


def draw_strip(
    lane: np.ndarray, frame_hw: tuple[int, int] = FRAME_HW, width_px: int = WIDTH_PX
) -> Strip | None:
    """Draw a lane (P, 2); None when it has fewer than 2 points."""
    if len(lane) < 2:
        return None
    return draw_path(
        _to_pixels(lane if len(lane) == 2 else spline_points(lane)), frame_hw, width_px
    )


def draw_path(pixels: np.ndarray, frame_hw: tuple[int, int], width_px: int) -> Strip:
    """Draw a line through pixels, int32 (P, 2), P >= 1, as one cv2.line after the other does."""
    moved = np.ones(len(pixels), bool)
    moved[1:] = (pixels[1:] != pixels[:-1]).any(axis=1)
    pixels = pixels[moved]  # a segment of no length adds nothing to its neighbours' round ends
    # The cut leaves room for the pen, so that only the frame's own border ever clips a line.
    margin = width_px + 2
    low = np.clip(pixels.min(axis=0).astype(np.int64) - margin, 0, None)
    high = np.minimum(pixels.max(axis=0).astype(np.int64) + margin + 1, (frame_hw[1], frame_hw[0]))
    if (low >= high).any():
        return Strip(np.zeros((0, 0), np.uint8), 0, 0, 0)
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    shifted = (pixels - low).astype(np.int32)  # fits: where a pixel is negative, low is 0
    if (pixels[:-1] == NO_PIXEL).all(axis=1).any():
        _draw_broken(mask, shifted[-1], width_px)
    else:
        # polylines draws what one cv::line per segment draws: same quadrilaterals and round ends.
        # A lone point is a segment to itself.
        path = shifted if len(shifted) > 1 else np.repeat(shifted, 2, axis=0)
        cv2.polylines(mask, [path], False, 1, width_px)
    return Strip(mask, int(low[1]), int(low[0]), cv2.countNonZero(mask))


def _draw_broken(mask: np.ndarray, last: np.ndarray, width_px: int) -> None:
    """Draw a lane whose spline is NaN up to its last point, as OpenCV 3 and 4 do.

    The line comes from (INT_MIN, INT_MIN), at 45 degrees. Its area overflows there and stays empty,
    so that its round end and the two long edges remain. OpenCV 5 would fill it, and the counts
    would depend on the version. Within 2 px of OpenCV 4's picture.
    """
    x, y = (int(v) for v in last)
    cv2.line(mask, (x, y), (x, y), 1, width_px)
    if abs(x - y) > sum(mask.shape) + width_px:  # the edges pass the frame by
        return
    length = max(x, y, 0) + width_px
    apart = int(width_px / np.sqrt(2))
    for side in (1, -1):
        end = (x + side * (apart // 2), y - side * (apart - apart // 2))
        cv2.line(mask, (end[0] - length, end[1] - length), end, 1, 1)


def _to_pixels(points: np.ndarray) -> np.ndarray:
    """Float32 points to int32 pixels as OpenCV rounds them: half to even, overflow to INT_MIN."""
    rounded = np.rint(points.astype(np.float32)).astype(np.float64)
    inside = np.abs(rounded) < 2.0**31  # False for NaN
    return np.where(inside, rounded, NO_PIXEL).astype(np.int32)
