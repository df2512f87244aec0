"""Frames on which forms of a network are held against the float one: lanes, score, distortion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from calibrators.collect import spread
from calibrators.selective_focus import decode_all
from calibrators.sensitivity.variants import FLOAT, FULL, Heads, Variants
from trt_lane.datasets import open_dataset
from trt_lane.datasets.base import Dataset, Label
from trt_lane.evaluation import Comparison, compare
from trt_lane.fit import Fit, Fitted, fit_frame
from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet
from trt_lane.metrics.report import DatasetScore, score_labels
from trt_lane.scales import ScaleTable

Bar = Callable[[Iterable, int, str | Callable[[], str]], Iterable]
NO_BAR: Bar = lambda items, total, what: items  # noqa: E731


@dataclass(frozen=True, eq=False)
class EvaluationFrames:
    """Network inputs with what is needed to bring lanes back and to score them.

    Attributes:
        dataset: where they come from.
        indices: their numbers in it.
        inputs: float32 (F, 3, h, w).
        fits: how each was cropped; their pixels are left out.
        labels: one per frame; only scores look at them.
    """

    dataset: Dataset
    indices: tuple[int, ...]
    inputs: Tensor
    fits: tuple[Fitted, ...]
    labels: tuple[Label, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def first(self, count: int) -> EvaluationFrames:
        """`count` of the frames, spread evenly."""
        chosen = list(spread(len(self), count))
        return EvaluationFrames(
            self.dataset,
            tuple(self.indices[i] for i in chosen),
            self.inputs[chosen],
            tuple(self.fits[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
        )

    def score(self, lanes: Sequence[LaneSet]) -> DatasetScore | None:
        """In the data set's own metric; None without labels."""
        if self.dataset.metric is None or all(label.lanes is None for label in self.labels):
            return None
        return score_labels(self.dataset.metric, self.labels, lanes)

    def picture(self, number: int, image: ImageSpec) -> np.ndarray:
        """BGR frame `number` as the network's field of view."""
        return fit_frame(self.dataset.frame(self.indices[number]), image, Fit.CROP).frame


def evaluation_frames(
    spec: str, image: ImageSpec, wanted: int, bar: Bar = NO_BAR
) -> EvaluationFrames:
    """At most `wanted` frames of a data set, spread evenly, cropped to the model's view."""
    dataset = open_dataset(spec)
    indices = tuple(spread(len(dataset), wanted))
    inputs, fits = [], []
    for index in bar(indices, len(indices), "frames"):
        fitted = fit_frame(dataset.frame(index), image, Fit.CROP)
        inputs.append(image.to_tensor(fitted.frame))
        # Only its size is needed from here on; the pixels of some hundred frames fill gigabytes.
        hollow = np.broadcast_to(np.uint8(0), fitted.frame.shape)
        fits.append(dataclasses.replace(fitted, frame=hollow))
    labels = tuple(dataset.label(index) for index in indices)
    return EvaluationFrames(
        dataset, indices, torch.from_numpy(np.stack(inputs)), tuple(fits), labels
    )


def lanes_of_forms(
    decoder: Callable[..., LaneSet],
    variants: Variants,
    tables: Mapping[str, ScaleTable],
    frames: EvaluationFrames,
    bar: Bar = NO_BAR,
    what: str = "lanes",
) -> dict[str, list[LaneSet]]:
    """Lanes of FLOAT, FULL and every form, in the frames' own pixels."""
    lanes: dict[str, list[LaneSet]] = {name: [] for name in (FLOAT, FULL, *tables)}
    runs = variants.runs(tables, frames.inputs)
    for part, heads in with_bar(runs, len(frames), bar, what):
        for name, outputs in heads.items():
            lanes[name] += _lanes(decoder, outputs, frames, part)
    return lanes


def lanes_of_form(
    decoder: Callable[..., LaneSet],
    variants: Variants,
    table: ScaleTable,
    frames: EvaluationFrames,
    bar: Bar = NO_BAR,
    what: str = "lanes",
) -> list[LaneSet]:
    """The same of one form alone: a third of the work where FLOAT and FULL are known."""
    lanes: list[LaneSet] = []
    runs = variants.run_alone(table, frames.inputs)
    for part, outputs in with_bar(runs, len(frames), bar, what):
        lanes += _lanes(decoder, outputs, frames, part)
    return lanes


T = TypeVar("T")


def with_bar(
    runs: Iterable[tuple[slice, T]], count: int, bar: Bar, what: str
) -> Iterator[tuple[slice, T]]:
    """Runs over parts of `count` frames, with a bar that counts the frames."""
    done = iter(bar(range(count), count, what))
    for part, outputs in runs:
        yield part, outputs
        for _ in range(part.start, part.stop):
            next(done, None)
    next(done, None)  # closes the bar


def _lanes(
    decoder: Callable[..., LaneSet], heads: Heads, frames: EvaluationFrames, part: slice
) -> list[LaneSet]:
    found = decode_all(decoder, heads)
    return [fit.to_original(one) for fit, one in zip(frames.fits[part], found, strict=True)]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a form is worth on the evaluation frames.

    Attributes:
        score: in the data set's metric, or None without labels.
        comparison: with the float network's lanes.
    """

    score: DatasetScore | None
    comparison: Comparison

    @property
    def agreement_f1(self) -> float:
        """F1 of its lanes against those of the float network."""
        return self.comparison.agreement.f1

    @property
    def distortion_px(self) -> float:
        """Mean Lane Distortion Score."""
        return self.comparison.distortion_px


def outcomes(
    frames: EvaluationFrames, lanes: Mapping[str, Sequence[LaneSet]]
) -> dict[str, Outcome]:
    """Score and comparison of every form, FLOAT among them."""
    return {name: outcome(frames, found, lanes[FLOAT]) for name, found in lanes.items()}


def outcome(
    frames: EvaluationFrames, lanes: Sequence[LaneSet], float_lanes: Sequence[LaneSet]
) -> Outcome:
    """Score and comparison of one form."""
    return Outcome(frames.score(lanes), compare(list(lanes), list(float_lanes)))
