"""CurveLanes' F1: lanes drawn 5 px wide on a 224x224 picture of the frame, whatever its size.

Source of every rule: tools/condlanenet/lane_metric.py of aliyun/conditional-lane-detection, which
is Huawei's own (vega). It follows CULane's spline, but in steps of a pixel, and cuts off what
CULane rounds; lanes are matched for the largest sum of IoU.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from trt_lane.lanes import LaneSet
from trt_lane.metrics.assignment import match_heaviest
from trt_lane.metrics.culane import IOU, CulaneCounts, CulaneMatches, Lanes
from trt_lane.metrics.culane_spline import segments

FRAME_HW = (1440, 2560)  # of most frames; the others are smaller
PICTURE_HW = (224, 224)
WIDTH_PX = 5


def score_image(
    pred: Sequence[np.ndarray],
    anno: Sequence[np.ndarray],
    frame_hw: tuple[int, int] = FRAME_HW,
    threshold: float = IOU,
) -> CulaneCounts:
    """Counts of one image.

    Args:
        pred: predicted lanes, each (P, 2) in pixels of the frame; those without points do not
            count, one of a single point matches nothing.
        anno: the annotated lanes, likewise.
        frame_hw: height and width of the frame.
        threshold: a pair is found when its IoU is above it.
    """
    return match_image(pred, anno, frame_hw).counts(threshold)


def match_image(pred: Lanes, anno: Lanes, frame_hw: tuple[int, int] = FRAME_HW) -> CulaneMatches:
    """Draw and match the lanes of one image; arguments as in `score_image`, or LaneSets.

    A LaneSet's lanes are drawn on the picture of its own frame, whatever `frame_hw` is.
    """
    pred_masks, anno_masks = _masks(pred, frame_hw), _masks(anno, frame_hw)
    ious = np.array([[_iou(a, p) for p in pred_masks] for a in anno_masks])
    ious = ious.reshape(len(anno_masks), len(pred_masks))
    matched: tuple[float, ...] = ()
    if ious.size:
        partners = enumerate(match_heaviest(ious))
        matched = tuple(float(ious[row, column]) for row, column in partners if column >= 0)
    return CulaneMatches(matched, len(pred_masks), len(anno_masks))


def _masks(lanes: Lanes, frame_hw: tuple[int, int]) -> list[np.ndarray]:
    if isinstance(lanes, LaneSet):
        lanes, frame_hw = lanes.lanes(), lanes.frame_hw
    return [_drawn(lane, frame_hw) for lane in lanes if len(lane)]


def _drawn(lane: np.ndarray, frame_hw: tuple[int, int]) -> np.ndarray:
    """Mask uint8 (224, 224) of a lane, empty for a single point."""
    mask = np.zeros(PICTURE_HW, np.uint8)
    ratio = np.divide(frame_hw[::-1], PICTURE_HW[::-1])
    points = np.asarray(lane, np.float64).reshape(-1, 2) / ratio
    # A point that comes twice has no direction; the official program fails at it.
    moved = np.ones(len(points), bool)
    moved[1:] = (points[1:] != points[:-1]).any(axis=1)
    points = points[moved]
    if len(points) > 1:
        pixels = np.trunc(_curve(points)).astype(np.int32)
        cv2.polylines(mask, [pixels], False, 1, WIDTH_PX)
    return mask


def _curve(points: np.ndarray) -> np.ndarray:
    """Points along the spline (straight through two), a pixel apart from each given one on."""
    chord, linear, square, cube = segments(points)
    parts = []
    for i, length in enumerate(chord):
        t = np.arange(np.ceil(length))[:, None]
        # In the official order of operations: a last bit decides which pixel it is.
        parts.append(points[i] + linear[i] * t + square[i] * t * t + cube[i] * t * t * t)
    return np.concatenate([*parts, points[-1:]])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = cv2.countNonZero(a | b)
    return cv2.countNonZero(a & b) / union if union else 0.0
