"""The score of a whole data set in its own metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.metrics import culane, curvelanes, llamas, tusimple
from trt_lane.metrics.culane import CulaneCounts, CulaneMatches
from trt_lane.metrics.tusimple import TusimpleScore
from trt_lane.model import Metric

if TYPE_CHECKING:
    from trt_lane.datasets.base import Dataset, Label

# The crossroads of CULane hold no annotated lane; officially only their false positives are told.
CROSSROAD = "cross"
# mF1 is the mean of F1 over these, as CLRNet (arXiv 2203.10350) reports it.
MF1_IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
# Scores that draw lanes, match them one to one by IoU and count: F1, at any threshold.
DRAWN: Mapping[Metric, Callable[[LaneSet, LaneSet], CulaneMatches]] = {
    Metric.CULANE: culane.match_image,
    Metric.CURVELANES: curvelanes.match_image,
    Metric.LLAMAS: llamas.match_image,
}


@dataclass(frozen=True)
class DatasetScore:
    """What predictions are worth on a labelled data set.

    Attributes:
        metric: whose rules.
        per_image: counts or score of every labelled image, in order.
        categories: summed counts by category; empty where there are none or for TuSimple.
        matches: of every labelled image, for other thresholds; empty for TuSimple.
    """

    metric: Metric
    per_image: tuple[CulaneCounts, ...] | tuple[TusimpleScore, ...]
    categories: dict[str, CulaneCounts] = field(default_factory=dict)
    matches: tuple[CulaneMatches, ...] = ()

    @property
    def images(self) -> int:
        """Number of labelled images that were scored."""
        return len(self.per_image)

    @property
    def total(self) -> CulaneCounts | TusimpleScore:
        """Summed counts of drawn lanes or the mean score (TuSimple)."""
        if self.metric is Metric.TUSIMPLE:
            return tusimple.mean(self.per_image)
        return reduce(add, self.per_image, CulaneCounts())

    @property
    def value(self) -> float:
        """The figure that ranks models: F1 or accuracy, in [0, 1]."""
        total = self.total
        return total.accuracy if self.metric is Metric.TUSIMPLE else total.f1

    @property
    def value_name(self) -> str:
        """What `value` is called."""
        return "accuracy" if self.metric is Metric.TUSIMPLE else "f1"

    @property
    def mean_f1(self) -> float:
        """mF1, over MF1_IOUS: a lane near one threshold cannot move it far."""
        counts = [reduce(add, (m.counts(iou) for m in self.matches)) for iou in MF1_IOUS]
        return float(np.mean([c.f1 for c in counts]))

    def to_dict(self) -> dict:
        """Plain numbers for JSON, without the single images."""
        figures = {"metric": self.metric.value, "images": self.images}
        if self.metric is Metric.TUSIMPLE:
            total = self.total
            return {**figures, "accuracy": total.accuracy, "fp": total.fp, "fn": total.fn}
        figures |= counts_to_dict(self.total)
        if self.matches:
            figures["mf1"] = self.mean_f1
        if self.categories:
            figures["categories"] = {
                name: category_to_dict(name, counts) for name, counts in self.categories.items()
            }
        return figures


def score_dataset(dataset: Dataset, predictions: Sequence[LaneSet]) -> DatasetScore:
    """Score one LaneSet per frame in the data set's own metric; unlabelled frames are left out.

    Raises:
        TrtLaneError: the data set has no labels at all.
        ValueError: not as many predictions as frames.
    """
    if dataset.metric is None:
        raise TrtLaneError(
            f"{dataset.spec} has no labels; compare with the float model's lanes instead"
        )
    if len(predictions) != len(dataset):
        raise ValueError(f"{len(predictions)} predictions for {len(dataset)} frames")
    return score_labels(dataset.metric, list(dataset.labels()), predictions)


def score_labels(
    metric: Metric, labels: Sequence[Label], predictions: Sequence[LaneSet]
) -> DatasetScore:
    """Score predictions against labels in the same order; unlabelled frames are left out."""
    if metric not in DRAWN and metric is not Metric.TUSIMPLE:
        raise ValueError(f"no data set here is scored by {metric.value}: {metric.rule}")
    labelled = [(lb, p) for lb, p in zip(labels, predictions, strict=True) if lb.lanes is not None]
    if metric is Metric.TUSIMPLE:
        scores = tuple(_score_tusimple(label, pred) for label, pred in labelled)
        return DatasetScore(Metric.TUSIMPLE, scores)
    match = DRAWN[metric]
    matches = tuple(match(pred, label.lanes) for label, pred in labelled)
    counts = tuple(image.counts() for image in matches)
    categories: dict[str, CulaneCounts] = {}
    for (label, _), image in zip(labelled, counts, strict=True):
        if label.category is not None:
            categories[label.category] = categories.get(label.category, CulaneCounts()) + image
    return DatasetScore(metric, counts, dict(sorted(categories.items())), matches)


def counts_to_dict(counts: CulaneCounts) -> dict:
    """Counts with their shares."""
    return {
        "f1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
        "tp": counts.tp,
        "fp": counts.fp,
        "fn": counts.fn,
    }


def category_to_dict(category: str, counts: CulaneCounts) -> dict:
    """A category's figures: only false positives for the crossroads."""
    return {"fp": counts.fp} if category == CROSSROAD else counts_to_dict(counts)


def _score_tusimple(label: Label, pred: LaneSet) -> TusimpleScore:
    """Score what would be written to a prediction file, so that file and memory agree."""
    rows = np.asarray(label.h_samples)
    # LaneSet holds a TuSimple label with one point per row, bottom row first.
    order = np.argsort(np.argsort(-rows, kind="stable"), kind="stable")
    anno = label.lanes.points[:, order, 0]
    hw = label.lanes.frame_hw
    columns = tusimple.file_columns(pred if pred.frame_hw == hw else pred.scaled_to(hw), rows)
    return tusimple.score_image(columns, anno, rows)
