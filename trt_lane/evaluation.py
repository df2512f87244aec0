"""Lanes of several forms of one network on the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trt_lane.datasets.base import Dataset, Label
from trt_lane.fit import Fit, fit_frame
from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts, agreement
from trt_lane.metrics.lane_distortion import lane_distortion_score

Network = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """How the lanes of one form differ from those of the float network.

    Attributes:
        agreement: F1 of the lanes scored against the float lanes (IoU .5, 30 px at 1640 wide).
        distortion_px: mean Lane Distortion Score.
        distortions_px: of each frame.
    """

    agreement: CulaneCounts
    distortion_px: float
    distortions_px: tuple[float, ...]


def lanes_of(
    networks: Mapping[str, Network],
    image: ImageSpec,
    decoder: Any,
    dataset: Dataset,
    indices: Iterable[int],
    on_heads: Callable[[dict[str, dict[str, np.ndarray]]], None] | None = None,
) -> tuple[dict[str, list[LaneSet]], list[Label]]:
    """Decoded lanes of every network on those frames, in the frames' own pixels.

    A frame of another aspect ratio is cropped to the model's, as calibration does. `on_heads` is
    called with the heads (*shape) of each frame, by network and head name.
    """
    lanes: dict[str, list[LaneSet]] = {name: [] for name in networks}
    labels = []
    for index in indices:
        labels.append(dataset.label(index))
        fitted = fit_frame(dataset.frame(index), image, Fit.CROP)
        tensor = image.to_tensor(fitted.frame)[None]
        heads = {
            name: {k: np.asarray(v[0], np.float32) for k, v in network(tensor).items()}
            for name, network in networks.items()
        }
        for name, found in heads.items():
            lanes[name].append(fitted.to_original(decoder(**found)))
        if on_heads is not None:
            on_heads(heads)
    return lanes, labels


def compare(lanes: list[LaneSet], float_lanes: list[LaneSet]) -> Comparison:
    """Lanes of one form against those of the float network on the same frames."""
    distortions = tuple(map(lane_distortion_score, float_lanes, lanes))
    mean = float(np.mean(distortions)) if distortions else 0.0
    return Comparison(agreement(lanes, float_lanes), mean, distortions)


def head_errors(
    heads: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Per head the mean squared difference over the reference's mean square (0 is equal)."""
    errors = {}
    for name, expected in reference.items():
        difference = np.float64(heads[name]) - np.float64(expected)
        power = float(np.mean(np.float64(expected) ** 2))
        errors[name] = float(np.mean(difference**2)) / max(power, 1e-30)
    return errors
