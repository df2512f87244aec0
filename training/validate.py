"""F1 of a network in training, on cached frames or through the path of a real camera frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import nn

from training.data import FrameCache
from training.loop import normalise
from trt_lane.datasets.synthetic import Split, render
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts, score_image
from trt_lane.model import LaneModel

BATCH = 16


def validate(model: LaneModel, network: nn.Module, frames: FrameCache) -> CulaneCounts:
    """CULane counts at IoU 0.5 over cached frames, in float32."""
    counts = CulaneCounts()
    for start in range(0, len(frames), BATCH):
        rows = [frames[i] for i in range(start, min(start + BATCH, len(frames)))]
        images = normalise(torch.from_numpy(np.stack([r[0] for r in rows])), model.image)
        for pred, (_, lanes) in zip(_lane_sets(model, network, images), rows, strict=True):
            truth = LaneSet(lanes, np.ones(len(lanes)), model.image.frame_hw).lanes()
            labelled = LaneSet.from_lanes([t for t in truth if len(t)], model.image.frame_hw)
            counts += score_image(pred, labelled)[0]
    return counts


def evaluate(
    model: LaneModel,
    network: nn.Module,
    indices: Iterable[int],
    seed: int = 0,
    after_frame: Callable[[], object] = lambda: None,
) -> dict[str, CulaneCounts]:
    """CULane counts per category over unseen frames: the test split at full size, float32.

    Each frame takes the way of a camera frame: ImageSpec.to_tensor, network, decoder, scorer.
    """
    counts: dict[str, CulaneCounts] = {}
    for index in indices:
        scene = render(seed, index, Split.TEST, frame_hw=model.image.frame_hw)
        images = torch.from_numpy(model.image.to_tensor(scene.frame))[None]
        (pred,) = _lane_sets(model, network, images)
        labelled = LaneSet.from_lanes(scene.lanes, model.image.frame_hw)
        (found,) = score_image(pred, labelled)
        category = scene.category.value
        counts[category] = counts.get(category, CulaneCounts()) + found
        after_frame()
    return counts


def total(counts: dict[str, CulaneCounts]) -> CulaneCounts:
    """Counts of all categories together, as the official overall F1 has them."""
    return sum(counts.values(), CulaneCounts())


@torch.no_grad()
def _lane_sets(model: LaneModel, network: nn.Module, images: torch.Tensor) -> Iterator[LaneSet]:
    heads = {name: head.float().numpy() for name, head in network(images).items()}
    for i in range(len(images)):
        yield model.decoder(**{name: head[i] for name, head in heads.items()})
