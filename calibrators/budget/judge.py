"""What a plan costs against float, and how finely the frames can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibrators.sensitivity.evaluation import EvaluationFrames, Outcome
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts, CulaneMatches, match_image
from trt_lane.metrics.report import DatasetScore
from trt_lane.model import Metric

RESAMPLES = 1000
AGREEMENT = "agreement_f1"  # the metric of frames without labels
AGREEMENT_WANTED = 0.98
# Points: a difference of two scores that are equal in decimals is not quite 0.
ROUNDING = 1e-9
# At one IoU chance decides: a lane that lies at the threshold is found or not by a hundredth of a
# pixel, and on hundreds of frames such lanes are worth more than a budget of 0.3. The loss is that
# of F1 averaged over thresholds around the official one, where each lane counts for how far it is
# moved (ours).
STEADY_IOUS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
# Not so the agreement: labelled lanes cross a threshold either way, but float's own lanes agree
# with it at all of them, so that every stricter one could only add to the loss.
AGREEMENT_IOUS = (0.5,)


@dataclass(frozen=True)
class Verdict:
    """What a form loses against float.

    Attributes:
        metric: "f1", "accuracy", or "agreement_f1" where there are no labels.
        value: of the form in that metric, in [0, 1].
        float_value: of the float network; 1 for the agreement.
        agreement_f1: F1 of its lanes against the float network's.
        distortion_px: Lane Distortion Score.
        loss_points: points (hundredths) lost against float, negative when the form is better; of
            F1 the mean over STEADY_IOUS, where `value` is that of the official threshold.
    """

    metric: str
    value: float
    float_value: float
    agreement_f1: float
    distortion_px: float
    loss_points: float

    def to_dict(self) -> dict:
        """Plain numbers."""
        return {
            "metric": self.metric,
            "value": self.value,
            "float_value": self.float_value,
            "loss_points": self.loss_points,
            "agreement_f1": self.agreement_f1,
            "distortion_px": self.distortion_px,
        }


@dataclass(frozen=True)
class Noise:
    """How finely the frames can tell one form from another.

    Attributes:
        lane_points: points that one lane is worth: moved on the wrong side of the threshold, it
            is a lane missed and a lane made up.
        low_points, high_points: 95 % interval of the loss by resampling frames.
    """

    lane_points: float
    low_points: float
    high_points: float

    def to_dict(self) -> dict:
        """Plain numbers."""
        return {
            "lane_points": self.lane_points,
            "loss_95_points": [self.low_points, self.high_points],
        }


def judge(
    frames: EvaluationFrames,
    outcome: Outcome,
    reference: Outcome,
    lanes: Sequence[LaneSet],
    float_lanes: Sequence[LaneSet],
) -> tuple[Verdict, Noise]:
    """A form against the float network on the same frames, and how finely these can tell.

    Args:
        frames: evaluation frames.
        outcome: of the form.
        reference: of the float network.
        lanes: of the form, one LaneSet per frame.
        float_lanes: of the float network.
    """
    name, value, float_value = AGREEMENT, outcome.agreement_f1, 1.0
    if outcome.score is not None and reference.score is not None:
        name = outcome.score.value_name
        value, float_value = outcome.score.value, reference.score.value
        rows, float_rows = _labelled(outcome.score), _labelled(reference.score)
        count = sum(len(label.lanes) for label in frames.labels if label.lanes is not None)
    else:
        matches = [match_image(a, b) for a, b in zip(lanes, float_lanes, strict=True)]
        rows = _at(AGREEMENT_IOUS, matches)
        float_rows = np.array([[(float(len(wanted)), 0.0, 0.0)] for wanted in float_lanes])
        count = sum(len(wanted) for wanted in float_lanes)
    loss = 100 * float((_values(float_rows[None]) - _values(rows[None]))[0])
    verdict = Verdict(name, value, float_value, outcome.agreement_f1, outcome.distortion_px, loss)
    draws = np.random.default_rng(0).integers(0, len(rows), (RESAMPLES, len(rows)))
    losses = 100 * (_values(float_rows[draws]) - _values(rows[draws]))
    low, high = np.percentile(losses, (2.5, 97.5))
    return verdict, Noise(100 / max(count, 1), float(low), float(high))


def allowed_points(budget_points: float, verdict: Verdict, noise: Noise) -> float:
    """What a plan may lose on frames of that noise: the budget, but of agreement one lane (ours).

    Of a few unlabelled frames one lane is worth more than most budgets: held to less, hardly
    anything but all in float would pass. Where one lane alone would break the agreement that is
    wanted, the budget stands.
    """
    one_lane_agrees = noise.lane_points <= 100 * (1 - AGREEMENT_WANTED) + ROUNDING
    if verdict.metric != AGREEMENT or not one_lane_agrees:
        return budget_points
    return max(budget_points, noise.lane_points)


def _labelled(score: DatasetScore) -> np.ndarray:
    """Numbers of each labelled frame: (frames, 1, 1) accuracies or (frames, thresholds, 3)."""
    if score.metric is Metric.TUSIMPLE:
        return np.array([[[image.accuracy]] for image in score.per_image])
    return _at(STEADY_IOUS, score.matches)


def _at(ious: Sequence[float], matches: Sequence[CulaneMatches]) -> np.ndarray:
    """Counts at every threshold: (frames, thresholds, 3)."""
    return np.array([[_counts(image.counts(iou)) for iou in ious] for image in matches])


def _counts(image: CulaneCounts) -> tuple[float, float, float]:
    return float(image.tp), float(image.fp), float(image.fn)


def _values(rows: np.ndarray) -> np.ndarray:
    """Accuracy or mean F1: (resamples, frames, thresholds, 1 or 3) -> (resamples,)."""
    if rows.shape[-1] == 1:
        return rows[..., 0, 0].mean(axis=1)
    tp, fp, fn = np.moveaxis(rows.sum(axis=1), -1, 0)
    whole = 2 * tp + fp + fn
    return np.where(whole > 0, 2 * tp / np.maximum(whole, 1), 1.0).mean(axis=-1)
