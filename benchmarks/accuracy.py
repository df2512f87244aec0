"""Accuracy of an engine: every frame's counts by official rules, and its distance from float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.cell_specs import short_spec
from trt_lane.datasets.base import Dataset, Label
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.metrics.bootstrap import accuracy_of_frames, f1, f1_of_frames
from trt_lane.metrics.culane import score_image
from trt_lane.metrics.lane_distortion import lane_distortion_score
from trt_lane.metrics.report import CROSSROAD, DRAWN, MF1_IOUS, score_labels
from trt_lane.model import Metric

_DRAWN = frozenset(metric.value for metric in DRAWN)
_COLUMNS = {"culane": 2 + len(MF1_IOUS), "tusimple": 3, "agreement": 3}


@dataclass(frozen=True, eq=False)
class Form:
    """What the lanes of the engine or of the float graph are worth, frame by frame.

    Attributes:
        culane: int (frames, 2 + len(MF1_IOUS)): predicted lanes, annotated lanes, lanes found at
            each IoU, drawn by the data set's own rules (CULane's, CurveLanes' or LLAMAS'); None
            where it has no such labels.
        tusimple: (frames, 3) accuracy, fp, fn; None likewise. fp is below 0 where more annotated
            lanes than predicted ones are found, as officially.
        agreement: int (frames, 3) tp, fp, fn against the float graph's lanes (IoU .5); None
            without a float graph.
        distortion_px: (frames,) Lane Distortion Score against them; None likewise.
    """

    culane: np.ndarray | None = None
    tusimple: np.ndarray | None = None
    agreement: np.ndarray | None = None
    distortion_px: np.ndarray | None = None

    def __post_init__(self) -> None:
        held = {name: values for name, values in vars(self).items() if values is not None}
        for name, values in held.items():
            expected = _COLUMNS.get(name)
            if not len(values) or values.shape[1:] != (() if expected is None else (expected,)):
                raise ValueError(f"{name} has shape {values.shape}; expected (frames, {expected})")
            counted = values[:, ::2] if name == "tusimple" else values
            if not np.isfinite(values).all() or (counted < 0).any():
                raise ValueError(f"{name} is not finite, or below 0")
        if (
            self.culane is not None
            and (self.culane[:, 2:] > self.culane[:, :2].min(axis=1, keepdims=True)).any()
        ):
            raise ValueError("culane: more lanes are found than there are")
        if (self.agreement is None) != (self.distortion_px is None):
            raise ValueError("of agreement and distortion_px one is there without the other")

    def counts(self, iou: float) -> np.ndarray:
        """[tp, fp, fn] (frames, 3) of drawn lanes at one of MF1_IOUS."""
        tp = self.culane[:, 2 + MF1_IOUS.index(iou)]
        return np.stack([tp, self.culane[:, 0] - tp, self.culane[:, 1] - tp], axis=1)

    def to_dict(self) -> dict:
        """Plain numbers; what is not there is left out."""
        held = {k: v for k, v in vars(self).items() if v is not None}
        return {k: np.round(v, 6).tolist() for k, v in held.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Form:
        """The inverse of `to_dict`."""
        return cls(**{k: np.asarray(v) for k, v in values.items() if v is not None})


@dataclass(frozen=True, eq=False)
class Accuracy:
    """The engine on the frames of a data set, and the float graph on the same frames.

    Attributes:
        data: spec of the data set.
        data_digest: sha256 of its content.
        metric: "culane", "curvelanes", "llamas", "tusimple" or None without labels.
        frames: names, in order; those without a label only where the data set has none at all.
        categories: of each frame, "" where it has none.
        forms: "engine", and "float" where its graph was given.
    """

    data: str
    data_digest: str
    metric: str | None
    frames: tuple[str, ...]
    categories: tuple[str, ...]
    forms: dict[str, Form]

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        object.__setattr__(self, "categories", tuple(self.categories))
        lengths = {len(self.frames), len(self.categories)}
        for form in self.forms.values():
            lengths |= {len(values) for values in vars(form).values() if values is not None}
        if len(lengths) > 1 or "engine" not in self.forms:
            raise ValueError("expected the engine's form, and one row per frame everywhere")
        if any(form.agreement is not None for form in self.forms.values()) and (
            self.forms["engine"].agreement is None
        ):
            raise ValueError("a form has an agreement with float, the engine has none")
        counted = "culane" if self.metric in _DRAWN else self.metric
        if counted is not None and any(
            getattr(form, counted, None) is None for form in self.forms.values()
        ):
            raise ValueError(f"the metric is {self.metric!r}, but a form has no counts by it")

    def figures(self) -> dict[str, dict[str, float]]:
        """Figure -> form -> value: what a summary shows."""
        found: dict[str, dict[str, float]] = {}
        for name, form in self.forms.items():
            for figure, value in _figures(form).items():
                found.setdefault(figure, {})[name] = value
        return found

    def by_category(self, iou: float = 0.5) -> dict[str, dict[str, Any]]:
        """Category -> frames and each form's F1; crossroads have only false positives."""
        if self.metric != Metric.CULANE.value:
            return {}
        found: dict[str, dict[str, Any]] = {}
        of = np.array(self.categories)
        for category in sorted(set(self.categories) - {""}):
            rows = of == category
            counts = {n: form.counts(iou)[rows].sum(axis=0) for n, form in self.forms.items()}
            entry: dict[str, Any] = {"frames": int(rows.sum())}
            for name, (tp, fp, fn) in counts.items():
                entry[name] = int(fp) if category == CROSSROAD else float(f1([tp, fp, fn]))
            found[category] = entry
        return found

    def to_dict(self) -> dict:
        """Plain JSON values."""
        own = {k: v for k, v in vars(self).items() if k != "forms"}
        return {**own, "forms": {name: form.to_dict() for name, form in self.forms.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Accuracy:
        """The inverse of `to_dict`."""
        forms = {name: Form.from_dict(form) for name, form in values["forms"].items()}
        return cls(**{**values, "forms": forms})


@dataclass(frozen=True, eq=False)
class Judged:
    """Accuracy with the lanes that it came from, for pictures."""

    accuracy: Accuracy
    indices: tuple[int, ...]
    lanes: dict[str, list[LaneSet]]


def judge(
    detectors: Mapping[str, LaneDetector], dataset: Dataset, indices: Iterable[int]
) -> Judged:
    """Run every form's detector on the frames and score its lanes.

    Args:
        detectors: "engine", and "float" if there is one.
        dataset: frames, and labels if it has any: then frames without one are left out.
        indices: frames to take.
    """
    lanes: dict[str, list[LaneSet]] = {name: [] for name in detectors}
    labels, kept = [], []
    for index in indices:
        label = dataset.label(index)
        if dataset.metric is not None and label.lanes is None:
            continue
        frame = dataset.frame(index)
        for name, detector in detectors.items():
            lanes[name].append(detector.detect(frame))
        labels.append(label)
        kept.append(index)
    if not kept:
        raise TrtLaneError(
            f"none of the frames asked for of {dataset.spec} has a label; expected one or more, or "
            "--frames 0 for the latency alone"
        )
    forms = {
        name: _form(dataset.metric, labels, found, lanes.get("float"))
        for name, found in lanes.items()
    }
    accuracy = Accuracy(
        short_spec(dataset.spec),
        dataset.digest(),
        dataset.metric.value if dataset.metric else None,
        tuple(label.name for label in labels),
        tuple(label.category or "" for label in labels),
        forms,
    )
    return Judged(accuracy, tuple(kept), lanes)


def _form(
    metric: Metric | None,
    labels: Sequence[Label],
    lanes: Sequence[LaneSet],
    reference: Sequence[LaneSet] | None,
) -> Form:
    culane = tusimple = agreement = distortion = None
    if metric in DRAWN:
        pairs = zip(lanes, labels, strict=True)
        rows = [drawn_row(metric, found, label.lanes) for found, label in pairs]
        culane = np.array(rows, np.int64).reshape(len(rows), 2 + len(MF1_IOUS))
    elif metric is Metric.TUSIMPLE:
        scores = score_labels(metric, labels, lanes).per_image
        tusimple = np.array([[s.accuracy, s.fp, s.fn] for s in scores]).reshape(-1, 3)
    if reference is not None:
        pairs = list(zip(lanes, reference, strict=True))
        counts = [score_image(found, ours)[0] for found, ours in pairs]
        agreement = np.array([[c.tp, c.fp, c.fn] for c in counts], np.int64).reshape(-1, 3)
        distortion = np.array([lane_distortion_score(ours, found) for found, ours in pairs])
    return Form(culane, tusimple, agreement, distortion)


def figures_of(
    metric: Metric | None,
    labels: Sequence[Label],
    lanes: Sequence[LaneSet],
    reference: Sequence[LaneSet] | None,
) -> dict[str, float]:
    """F1 or accuracy of lanes, and their agreement with the reference's, by the names of figures.

    Frames without a label count for the agreement alone.
    """
    labelled = [i for i, label in enumerate(labels) if label.lanes is not None]
    against = _figures(_form(None, labels, lanes, reference))
    if not labelled:
        return against
    form = _form(metric, [labels[i] for i in labelled], [lanes[i] for i in labelled], None)
    return _figures(form) | against


def drawn_row(metric: Metric, found: LaneSet, annotated: LaneSet) -> list[int]:
    """Predicted lanes, annotated lanes and lanes found at each of MF1_IOUS, drawn once for all."""
    matches = DRAWN[metric](found, annotated)
    return [matches.predicted, matches.annotated, *(matches.counts(iou).tp for iou in MF1_IOUS)]


def _figures(form: Form) -> dict[str, float]:
    found: dict[str, float] = {}
    if form.culane is not None:
        at = {iou: float(f1_of_frames(form.counts(iou))) for iou in MF1_IOUS}
        found |= {"F1": at[0.5], "F1 at .75": at[0.75], "mF1": float(np.mean(list(at.values())))}
    if form.tusimple is not None:
        found["accuracy"] = float(accuracy_of_frames(form.tusimple))
        found |= {"FP": float(form.tusimple[:, 1].mean()), "FN": float(form.tusimple[:, 2].mean())}
    if form.agreement is not None:
        found["agreement F1"] = float(f1_of_frames(form.agreement))
        found["LDS px"] = float(form.distortion_px.mean()) if len(form.distortion_px) else 0.0
    return found
