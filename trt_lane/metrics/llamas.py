"""LLAMAS' F1: CULane's idea, 30 px wide on the 1276x717 frame, drawn along other lines.

Source of every rule: culane_metric/evaluate.py of karstenBehrendt/unsupervised_llamas (the method
it calls discrete, with which LaneATT and CLRNet report). Predictions are drawn along a spline of 50
points; annotations, which have a point in every row, from point to point from row 300 downwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_lane.lanes import LaneSet
from trt_lane.metrics.assignment import match_heaviest
from trt_lane.metrics.culane import CulaneMatches, Lanes
from trt_lane.metrics.culane_strip import Strip, draw_path
from trt_lane.metrics.llamas_spline import spline_points

FRAME_HW = (717, 1276)
WIDTH_PX = 30
FIRST_ROW = 300  # annotations are not scored above
_FARTHEST_PX = 1e9  # what a spline may overshoot to and still is a pixel in int32


def match_image(pred: Lanes, anno: Lanes) -> CulaneMatches:
    """Draw and match the lanes of one image.

    The official code ends with an error where an annotation has less than two rows below FIRST_ROW,
    where a prediction is one point over and over, or where neither of two lanes touches the frame.
    Here the first is left out, the others match nothing. Where a spline runs along the border of
    two pixels, a straight lane in a whole column say, rounding errors decide there, not here.

    Args:
        pred: predicted lanes; a LaneSet is scaled from its own frame to 1276x717, arrays (P, 2) are
            in its pixels. Those of less than two points do not count, as officially.
        anno: the annotated lanes, likewise.
    """
    pred_lanes = [lane for lane in _arrays(pred) if len(lane) > 1]
    anno_lanes = [lane[lane[:, 1] >= FIRST_ROW] for lane in _arrays(anno)]
    anno_lanes = [lane for lane in anno_lanes if len(lane) > 1]
    pred_strips = [_predicted(lane) for lane in pred_lanes]
    anno_strips = [_annotated(lane) for lane in anno_lanes]
    ious = np.array([[_iou(a, p) for p in pred_strips] for a in anno_strips])
    matched: tuple[float, ...] = ()
    if ious.size:
        partners = enumerate(match_heaviest(ious))
        matched = tuple(float(ious[row, column]) for row, column in partners if column >= 0)
    return CulaneMatches(matched, len(pred_lanes), len(anno_lanes))


def _predicted(lane: np.ndarray) -> Strip | None:
    """A lane (P, 2) along its spline; None when all its points are the same."""
    moved = np.ones(len(lane), bool)
    moved[1:] = (lane[1:] != lane[:-1]).any(axis=1)
    lane = lane[moved]
    return _drawn(spline_points(lane)) if len(lane) > 1 else None


def _annotated(lane: np.ndarray) -> Strip:
    """A lane (P, 2) from its top row downwards."""
    return _drawn(lane[np.argsort(lane[:, 1], kind="stable")])


def _drawn(points: np.ndarray) -> Strip:
    # Fractions are cut off, where CULane rounds.
    pixels = np.trunc(np.clip(points, -_FARTHEST_PX, _FARTHEST_PX)).astype(np.int32)
    return draw_path(pixels, FRAME_HW, WIDTH_PX)


def _iou(anno: Strip, pred: Strip | None) -> float:
    return float(np.nan_to_num(anno.iou(pred))) if pred is not None else 0.0


def _arrays(lanes: Lanes) -> Sequence[np.ndarray]:
    if isinstance(lanes, LaneSet):
        lanes = (lanes if lanes.frame_hw == FRAME_HW else lanes.scaled_to(FRAME_HW)).lanes()
    return [np.asarray(lane, np.float64).reshape(-1, 2) for lane in lanes]
