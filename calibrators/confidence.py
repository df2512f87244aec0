"""The model's own confidence on the grid of each head: the paper's proxy for "here is a lane"."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from trt_lane.model import Activation, Confidence, Head


def confidence_map(confidence: Confidence, heads: Mapping[str, Tensor]) -> Tensor:
    """Probability of foreground in [0, 1], shape (N, …) of its head without the class axis."""
    raw = heads[confidence.head]
    if confidence.axis is None:
        return torch.sigmoid(raw) if confidence.activation is Activation.SIGMOID else raw.exp()
    axis = confidence.axis + 1  # the batch
    if confidence.activation is Activation.SOFTMAX:
        probability = torch.softmax(raw, axis)
    else:
        probability = torch.sigmoid(raw)
    if not confidence.classes:
        return probability.amax(axis)
    index = torch.tensor(confidence.classes)
    chosen = probability.index_select(axis, index).sum(axis)
    return 1 - chosen if confidence.of_background else chosen


def on_grid(head: Head, confidence: Tensor, value: Tensor) -> Tensor:
    """A confidence map laid along a head: broadcasts against `value` (N, *head.shape).

    Axes of other size are resized linearly (a heat map at stride 8 for offsets at stride 4).
    """
    axes = [a + 1 for a in head.confidence_axes]
    sizes = [value.shape[a] for a in axes]
    if list(confidence.shape[1:]) != sizes:
        confidence = _resize(confidence, sizes)
    order = sorted(range(len(axes)), key=axes.__getitem__)
    confidence = confidence.permute(0, *(i + 1 for i in order))
    shape = [confidence.shape[0]] + [1] * (value.ndim - 1)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return confidence.reshape(shape)


def _resize(confidence: Tensor, sizes: list[int]) -> Tensor:
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sizes)]
    return F.interpolate(confidence[:, None], sizes, mode=mode, align_corners=False)[:, 0]
