"""What a plan costs against float, and how finely the frames can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibrators.sensitivity.evaluation import EvaluationFrames, Outcome
from trt_lane.metrics.culane import CulaneCounts, score_image
from trt_lane.metrics.tusimple import TusimpleScore

RESAMPLES = 1000
AGREEMENT_WANTED = 0.98


@dataclass(frozen=True)
class Verdict:
    """What a form loses against float.

    Attributes:
        metric: "f1", "accuracy", or "agreement_f1" where there are no labels.
        value: of the form in that metric, in [0, 1].
        float_value: of the float network; 1 for the agreement.
        agreement_f1: F1 of its lanes against the float network's.
        distortion_px: Lane Distortion Score.
    """

    metric: str
    value: float
    float_value: float
    agreement_f1: float
    distortion_px: float

    @property
    def loss_points(self) -> float:
        """Points (hundredths) lost against float; negative when the form is better."""
        return 100 * (self.float_value - self.value)

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


def judge(outcome: Outcome, reference: Outcome) -> Verdict:
    """A form against the float network on the same frames."""
    agreement, distortion = outcome.agreement_f1, outcome.distortion_px
    if outcome.score is None or reference.score is None:
        return Verdict("agreement_f1", agreement, 1.0, agreement, distortion)
    score = outcome.score
    return Verdict(score.value_name, score.value, reference.score.value, agreement, distortion)


def measurement_noise(
    frames: EvaluationFrames,
    lanes: Mapping[str, Sequence],
    outcome: Outcome,
    reference: Outcome,
    form: str,
    float_form: str,
) -> Noise:
    """The interval of a form's loss, and what one lane is worth.

    Args:
        frames: evaluation frames.
        lanes: by form.
        outcome: of the form.
        reference: of the float network.
        form: name of the form in `lanes`.
        float_form: name of the float network in `lanes`.
    """
    if outcome.score is not None and reference.score is not None:
        rows = [_numbers(image) for image in outcome.score.per_image]
        float_rows = [_numbers(image) for image in reference.score.per_image]
        labelled = (label.lanes for label in frames.labels if label.lanes is not None)
        count = sum(len(found) for found in labelled)
    else:
        pairs = list(zip(lanes[form], lanes[float_form], strict=True))
        rows = [_numbers(score_image(found, wanted)[0]) for found, wanted in pairs]
        float_rows = [(float(len(wanted)), 0.0, 0.0) for _, wanted in pairs]
        count = sum(len(wanted) for _, wanted in pairs)
    draws = np.random.default_rng(0).integers(0, len(rows), (RESAMPLES, len(rows)))
    losses = 100 * (_values(np.array(float_rows)[draws]) - _values(np.array(rows)[draws]))
    low, high = np.percentile(losses, (2.5, 97.5))
    return Noise(100 / max(count, 1), float(low), float(high))


def _numbers(image: CulaneCounts | TusimpleScore) -> tuple[float, ...]:
    if isinstance(image, TusimpleScore):
        return (image.accuracy,)
    return (float(image.tp), float(image.fp), float(image.fn))


def _values(rows: np.ndarray) -> np.ndarray:
    """Accuracy or F1 of every resample: (resamples, frames, 1 or 3) -> (resamples,)."""
    if rows.shape[2] == 1:
        return rows[..., 0].mean(axis=1)
    tp, fp, fn = rows.sum(axis=1).T
    whole = 2 * tp + fp + fn
    return np.where(whole > 0, 2 * tp / np.maximum(whole, 1), 1.0)
