"""CULane's F1: the counts of the official C++ evaluator, without building it.

Source of every rule: the evaluation code of XingangPan/SCNN (tools/lane_evaluation), shipped by
cfzd/Ultra-Fast-Lane-Detection too. Lanes are drawn 30 px wide on the 1640x590 frame along a natural
cubic spline, compared by intersection over union, matched one to one, and a pair counts as found
when its IoU is above the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trt_lane.lanes import LaneSet
from trt_lane.metrics.assignment import match_heaviest
from trt_lane.metrics.culane_strip import FRAME_HW, WIDTH_PX, draw_strip

IOU = 0.5
# The official matching takes edges within 0.01 IoU of the best as equally good; a stricter matching
# would give other counts near the threshold.
MATCH_TOLERANCE = 1e-2

Lanes = LaneSet | Sequence[np.ndarray]


@dataclass(frozen=True)
class CulaneCounts:
    """Lanes found (tp), lanes made up (fp), lanes missed (fn); counts of image sets add up.

    The shares are 1 when there was nothing to find and nothing was claimed, and 0 where their
    denominator is 0 otherwise (the official program prints -1 and NaN there).
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: CulaneCounts) -> CulaneCounts:
        return CulaneCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Share of the predicted lanes that are real."""
        return self._share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the annotated lanes that were found."""
        return self._share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self._share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def _share(self, part: int, whole: int) -> float:
        return part / whole if whole else float(self == CulaneCounts())


@dataclass(frozen=True)
class CulaneMatches:
    """One image's lanes matched one to one: whence its counts at every threshold.

    Attributes:
        ious: of each matched pair.
        predicted: lanes that were claimed.
        annotated: lanes that were there to find.
    """

    ious: tuple[float, ...]
    predicted: int
    annotated: int

    def counts(self, threshold: float = IOU) -> CulaneCounts:
        """Counts where a pair is found when its IoU is above (not at) the threshold."""
        tp = sum(iou > threshold for iou in self.ious)
        return CulaneCounts(tp, self.predicted - tp, self.annotated - tp)


def match_image(
    pred: Lanes,
    anno: Lanes,
    frame_hw: tuple[int, int] = FRAME_HW,
    width_px: int = WIDTH_PX,
) -> CulaneMatches:
    """Draw and match the lanes of one image.

    Args:
        pred: predicted lanes; a LaneSet is scaled from its own frame to `frame_hw`, arrays (P, 2)
            are taken to be in its pixels. A lane of 0 or 1 points matches nothing but counts.
        anno: the annotated lanes, likewise.
        frame_hw: size at which lanes are drawn.
        width_px: width at which lanes are drawn.
    """
    pred_lanes, anno_lanes = as_arrays(pred, frame_hw), as_arrays(anno, frame_hw)
    ious = iou_matrix(anno_lanes, pred_lanes, frame_hw, width_px)
    matched: tuple[float, ...] = ()
    if ious.size:
        column_of = match_heaviest(ious, MATCH_TOLERANCE)
        matched = tuple(float(ious[r, c]) for r, c in enumerate(column_of) if c >= 0)
    return CulaneMatches(matched, len(pred_lanes), len(anno_lanes))


def score_image(
    pred: Lanes,
    anno: Lanes,
    frame_hw: tuple[int, int] = FRAME_HW,
    width_px: int = WIDTH_PX,
    thresholds: Sequence[float] = (IOU,),
) -> tuple[CulaneCounts, ...]:
    """Counts of one image at each IoU threshold; the other arguments as in `match_image`."""
    matches = match_image(pred, anno, frame_hw, width_px)
    return tuple(map(matches.counts, thresholds))


def score(
    pairs: Iterable[tuple[Lanes, Lanes]],
    thresholds: Sequence[float] = (IOU,),
    frame_hw: tuple[int, int] = FRAME_HW,
    width_px: int = WIDTH_PX,
) -> tuple[CulaneCounts, ...]:
    """Counts over (pred, anno) pairs at each threshold; arguments as in `score_image`."""
    totals = tuple(CulaneCounts() for _ in thresholds)
    for pred, anno in pairs:
        image = score_image(pred, anno, frame_hw, width_px, thresholds)
        totals = tuple(a + b for a, b in zip(totals, image, strict=True))
    return totals


def agreement(
    lanes: Sequence[LaneSet], float_lanes: Sequence[LaneSet], threshold: float = IOU
) -> CulaneCounts:
    """How far two versions of a model give the same lanes; needs no labels.

    The float model's lanes take the annotation's place: `.f1` is the agreement F1, `.recall` the
    share of the float model's lanes that survived. Images are paired by position.
    """
    return score(zip(lanes, float_lanes, strict=True), (threshold,))[0]


def iou_matrix(
    anno: Sequence[np.ndarray],
    pred: Sequence[np.ndarray],
    frame_hw: tuple[int, int] = FRAME_HW,
    width_px: int = WIDTH_PX,
) -> np.ndarray:
    """IoU float64 (annotated, predicted) of the drawn lanes.

    0 for lanes of fewer than 2 points; NaN (0 / 0) when neither lane touches the frame, as in the
    official code, where such a pair can never be matched.
    """
    anno_strips = [draw_strip(lane, frame_hw, width_px) for lane in anno]
    pred_strips = [draw_strip(lane, frame_hw, width_px) for lane in pred]
    ious = np.zeros((len(anno), len(pred)))
    for i, a in enumerate(anno_strips):
        for j, b in enumerate(pred_strips):
            ious[i, j] = 0.0 if a is None or b is None else a.iou(b)
    return ious


def as_arrays(lanes: Lanes, frame_hw: tuple[int, int]) -> list[np.ndarray]:
    """Lanes as float32 (P, 2) arrays in the pixels of a frame of that size."""
    if isinstance(lanes, LaneSet):
        return (lanes if lanes.frame_hw == frame_hw else lanes.scaled_to(frame_hw)).lanes()
    return [np.asarray(lane, np.float32).reshape(-1, 2) for lane in lanes]
