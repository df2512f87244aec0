"""What a form gains or loses against another on the same images, and how far chance reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trt_lane.metrics.bootstrap import f1, points_interval
from trt_lane.metrics.report import MF1_IOUS, DatasetScore
from trt_lane.model import Metric


@dataclass(frozen=True)
class Points:
    """A difference in points (hundredths of F1 or accuracy); positive is better.

    Attributes:
        value: on the images as they are.
        low, high: central 95 % of what it is on images drawn anew from these, the same ones for
            both forms: a difference whose interval holds 0 may be chance.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return {"value": self.value, "low": self.low, "high": self.high}


def points_to(score: DatasetScore, reference: DatasetScore) -> dict[str, Points]:
    """Differences to the reference in every figure that ranks models.

    Args:
        score: of one form.
        reference: of another on the same images.

    Returns:
        "accuracy" (TuSimple) or "f1" and "mf1"; empty where there is no labelled image.

    Raises:
        ValueError: they are not of the same images and metric.
    """
    if score.metric is not reference.metric or score.images != reference.images:
        raise ValueError(
            f"{score.images} images by {score.metric.value} against {reference.images} by "
            f"{reference.metric.value}"
        )
    if not score.images:
        return {}
    if score.metric is Metric.TUSIMPLE:
        images = score.images
        return {"accuracy": _points(score, reference, _accuracies, lambda sums: sums / images)}
    return {
        "f1": _points(score, reference, _counts, f1),
        "mf1": _points(score, reference, _counts_by_iou, lambda sums: f1(sums).mean(axis=-1)),
    }


def _points(
    score: DatasetScore,
    reference: DatasetScore,
    rows: Callable[[DatasetScore], np.ndarray],
    of_sums: Callable[[np.ndarray], np.ndarray],
) -> Points:
    found, expected = rows(score), rows(reference)
    value, other = (of_sums(r.sum(axis=0)[None])[0] for r in (found, expected))
    low, high = points_interval(found, expected, of_sums)
    return Points(100 * float(value - other), low, high)


def _accuracies(score: DatasetScore) -> np.ndarray:
    """(images,)."""
    return np.array([image.accuracy for image in score.per_image])


def _counts(score: DatasetScore) -> np.ndarray:
    """[tp, fp, fn], (images, 3)."""
    return np.array([(c.tp, c.fp, c.fn) for c in score.per_image], np.float64)


def _counts_by_iou(score: DatasetScore) -> np.ndarray:
    """[tp, fp, fn] at every threshold of mF1, (images, thresholds, 3)."""
    return np.array(
        [
            [(c.tp, c.fp, c.fn) for c in (image.counts(iou) for iou in MF1_IOUS)]
            for image in score.matches
        ],
        np.float64,
    )
