"""Selective Focus (Fan et al., AAAI 2024, arXiv 2405.06264): what reconstruction heeds.

The paper gives the ideas: reconstruct network-wise on the final heads; weigh each place by the
model's own confidence (Semantic Guided Focus); heed the heads that bend the lanes most, found
cheaply and refreshed while reconstruction goes on (Sensitivity Aware Selection). It published no
code: every formula below is our reading, said at the formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibrators.confidence import confidence_map, on_grid
from trt_lane.lanes import LaneSet
from trt_lane.metrics.lane_distortion import lane_distortion_score
from trt_lane.model import Head

EPSILON = 1e-6
# Our reading: shares of the initial error at which a head's sensitivity is measured.
CURVE_SHARES = (0.0, 0.25, 0.5, 1.0, 2.0)

Heads = Mapping[str, Tensor]
Decoder = Callable[..., LaneSet]


def semantic_guided_focus(
    head: Head, heads: Heads, heads_q: Heads, mode: str = "soft", floor: float = 0.1
) -> Tensor:
    """Semantic Guided Focus: weights w that broadcast against a head, in [0, 1].

    The paper weighs the foreground by the model's confidence output; ours: w = c laid on the head's
    grid ("soft"), or c > the decoder's own threshold ("binary"). The head that holds the confidence
    keeps w = floor + (1 - floor) max(c, c_quantised): without it false lanes appear where c is low
    (our reading).

    Args:
        head: whose weights.
        heads: outputs of the float network, (N, *shape).
        heads_q: outputs of the quantised network, likewise.
        mode: "off" (all ones), "soft" or "binary".
        floor: weight of the background of the confidence head.
    """
    value = heads[head.name]
    if mode == "off" or head.confidence is None:
        return torch.ones((), dtype=value.dtype)
    confidence = confidence_map(head.confidence, heads)
    holds_it = head.confidence.head == head.name
    if holds_it:
        confidence_q = confidence_map(head.confidence, heads_q).detach()
        confidence = torch.maximum(confidence, confidence_q)
    if mode == "binary":
        confidence = (confidence > head.confidence.threshold).to(value.dtype)
    if holds_it:
        confidence = floor + (1 - floor) * confidence
    return on_grid(head, confidence, value)


def channel_power(head: Head, heads: Heads, floor: float = 1e-12) -> Tensor:
    """Foreground variance of each semantic channel over the calibration set (our reading).

    Channels of one head can differ 300-fold in size (LSTR's curve numbers): dividing by it gives
    every quantity the same say. The confidence weighs the mean, so that slots and anchors without a
    lane do not set the scale.
    """
    value = heads[head.name]
    if head.confidence is None:
        weight = torch.ones_like(value)
    else:
        laid = on_grid(head, confidence_map(head.confidence, heads), value)
        weight = laid.expand_as(value) + EPSILON
    axes = [a for a in range(value.ndim) if head.channel_axis is None or a != head.channel_axis + 1]
    total = weight.sum(axes, keepdim=True)
    mean = (weight * value).sum(axes, keepdim=True) / total
    variance = (weight * (value - mean).square()).sum(axes, keepdim=True) / total
    return variance.clamp_min(max(floor, float(variance.max()) * 1e-9))


def channel_slope(head: Head, decoder: Decoder, heads: Heads, nudge: float = 0.05) -> Tensor:
    """How far the lanes move per unit of each semantic channel, in px; broadcasts (our reading).

    Each channel is moved alone by `nudge` of its foreground deviation, everywhere at once, and the
    mean Lane Distortion Score is divided by that. A channel that moves no lane gets a small slope
    from its deviation, so that it does not drift.
    """
    deviation = channel_power(head, heads).sqrt()
    reference = decode_all(decoder, heads)
    slopes = torch.zeros_like(deviation)
    for index in range(deviation.numel()):
        move = torch.zeros_like(deviation)
        move.view(-1)[index] = nudge * deviation.view(-1)[index]
        lanes = decode_all(decoder, {**heads, head.name: heads[head.name] + move})
        moved = np.mean(list(map(lane_distortion_score, reference, lanes)))
        slopes.view(-1)[index] = float(moved) / float(move.sum())
    least = 1e-2 * float((slopes * deviation).max()) / deviation
    return torch.maximum(slopes, least) if float(slopes.max()) > 0 else 1 / deviation


def focused_error(difference: Tensor, weight: Tensor, power: Tensor) -> Tensor:
    """L_h = sum w |D|² / power over sum w: a head's loss, 0 when it is reproduced (our reading)."""
    weight = weight.expand_as(difference)
    return (weight * difference.square() / power).sum() / (weight.sum() + EPSILON)


@dataclass(frozen=True, eq=False)
class SensitivityCurve:
    """How far the lanes bend when one head carries a share of its quantisation error.

    Attributes:
        shares: multiples of the error right after calibration, ascending.
        distortion_px: mean Lane Distortion Score at each share.
    """

    shares: tuple[float, ...]
    distortion_px: tuple[float, ...]

    def at(self, share: float) -> float:
        """Linear interpolation; beyond the last share the last slope goes on (no decoder call)."""
        if share <= self.shares[-1]:
            return float(np.interp(share, self.shares, self.distortion_px))
        slope = (self.distortion_px[-1] - self.distortion_px[-2]) / (
            self.shares[-1] - self.shares[-2]
        )
        return self.distortion_px[-1] + max(slope, 0.0) * (share - self.shares[-1])


def inter_head_sensitivity(
    decoder: Decoder,
    heads: Heads,
    heads_q: Heads,
    name: str,
    shares: Sequence[float] = CURVE_SHARES,
) -> SensitivityCurve:
    """S_h(a): LDS between the lanes of y and of y with head h moved by a times its own error.

    The paper measures a head's effect on the lanes alone and interpolates to cut the cost; the
    points of measurement are our reading.
    """
    reference = decode_all(decoder, heads)
    error = heads_q[name] - heads[name]
    distortions = []
    for share in shares:
        moved = {**heads, name: heads[name] + share * error}
        lanes = decode_all(decoder, moved) if share else reference
        distortions.append(float(np.mean(list(map(lane_distortion_score, reference, lanes)))))
    return SensitivityCurve(tuple(shares), tuple(distortions))


def sensitivity_aware_selection(sensitivities: Mapping[str, float], k: int | None) -> list[str]:
    """The k heads whose error bends the lanes most, most sensitive first.

    Args:
        sensitivities: S_h by head.
        k: how many; None for half of them, rounded up (our reading).
    """
    wanted = math.ceil(len(sensitivities) / 2) if k is None else min(k, len(sensitivities))
    return sorted(sensitivities, key=lambda h: (-sensitivities[h], h))[:wanted]


def decode_all(decoder: Decoder, heads: Heads) -> list[LaneSet]:
    """Lanes of every frame of a batch of heads."""
    arrays = {name: value.detach().numpy() for name, value in heads.items()}
    count = len(next(iter(arrays.values())))
    return [decoder(**{name: value[i] for name, value in arrays.items()}) for i in range(count)]
