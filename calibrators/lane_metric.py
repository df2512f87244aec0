"""How far an error of a head's numbers moves the lanes: what Selective Focus weighs them by.

All of it is our reading: the paper (arXiv 2405.06264) asks for the post-process to be heeded and
gives no formula.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from calibrators.selective_focus import EPSILON, Decoder, Heads, channel_power, decode_all
from trt_lane.metrics.lane_distortion import common_rows, tau_px
from trt_lane.model import Activation, Confidence, Head

# Part of the largest channel's effect that every channel counts with: none may drift freely.
LEAST_EFFECT = 0.01


def lane_metric(head: Head, decoder: Decoder, heads: Heads, nudge: float = 0.05) -> Tensor:
    """M (C, C) such that D' M D is the mean square in px² by which an error D moves lane points.

    J is the derivative of the lanes' columns by each semantic channel, measured by moving the
    channel alone, everywhere, by `nudge` of its foreground deviation; M is the mean of J'J over
    the points. Off its diagonal stands what channels do together: LSTR's slope and offset each
    move a lane by hundreds of pixels where the two of them move it by one. Points that appear or
    vanish count as moved by tau, on the diagonal.

    Args:
        head: one with a channel axis of C entries.
        decoder: of its model.
        heads: float outputs (N, *shape) of a few frames.
        nudge: in foreground deviations.
    """
    deviation = channel_power(head, heads).sqrt()
    channels = deviation.numel()
    lanes = decode_all(decoder, heads)
    rows, tau = common_rows(lanes[0].frame_hw), tau_px(lanes[0].frame_hw)
    columns = [found.at_rows(rows) for found in lanes]
    slopes = [np.zeros((*xs.shape, channels)) for xs in columns]
    vanished = np.zeros(channels)
    for channel in range(channels):
        move = torch.zeros_like(deviation)
        move.view(-1)[channel] = nudge * deviation.view(-1)[channel]
        by = float(move.sum())
        moved = decode_all(decoder, {**heads, head.name: heads[head.name] + move})
        for xs, found, slope in zip(columns, moved, slopes, strict=True):
            if len(found) != len(xs):
                continue  # another number of lanes has no derivative
            xs_moved = found.at_rows(rows)
            gap = np.clip(xs_moved - xs, -tau, tau) / by
            slope[..., channel] = np.where(np.isfinite(gap), gap, 0.0)
            vanished[channel] += tau * (np.isfinite(xs) ^ np.isfinite(xs_moved)).sum() / by
    points = max(sum(int(np.isfinite(xs).sum()) for xs in columns), 1)
    metric = sum(np.einsum("lrc,lrd->cd", slope, slope) for slope in slopes) / points
    metric += np.diag((vanished / points) ** 2)
    sigma = deviation.view(-1).numpy()
    effect = np.sqrt(np.diag(metric)) * sigma  # px per deviation
    least = LEAST_EFFECT * effect.max() if effect.max() > 0 else 1.0
    return torch.from_numpy(metric + np.diag((least / sigma) ** 2)).float()


def metric_error(difference: Tensor, weight: Tensor, metric: Tensor, axis: int) -> Tensor:
    """Sum of w D' M D over places, over the sum of w; 0 when the head is reproduced.

    Args:
        difference: D (N, *shape).
        weight: w, broadcasts against D and is the same for all channels.
        metric: M (C, C).
        axis: of the channels in D.
    """
    moved = difference.movedim(axis, -1)
    squares = ((moved @ metric) * moved).sum(-1)
    place = weight.expand_as(difference).movedim(axis, -1)[..., 0]
    return (place * squares).sum() / (place.sum() + EPSILON)


def has_classes(head: Head) -> bool:
    """Whether a head holds logits of exclusive classes, from which its own confidence is read."""
    confidence = head.confidence
    return (
        confidence is not None
        and confidence.head == head.name
        and confidence.axis is not None
        and confidence.activation is Activation.SOFTMAX
    )


def class_divergence(
    confidence: Confidence, value: Tensor, value_q: Tensor, weight: Tensor
) -> Tensor:
    """Mean Kullback-Leibler divergence of the class probabilities, weighed by w; 0 if the same.

    A decoder reads logits through a softmax: far below the largest an error says nothing, between
    two neighbouring cells it moves a point, and squares of logits cannot tell them apart.

    Args:
        confidence: of the head, with its class axis.
        value: float logits (N, *shape).
        value_q: quantised logits, likewise.
        weight: broadcasts against them and is the same for all classes.
    """
    axis = confidence.axis + 1  # the batch
    log_p, log_q = torch.log_softmax(value, axis), torch.log_softmax(value_q, axis)
    divergence = (log_p.exp() * (log_p - log_q)).sum(axis)
    place = weight.expand_as(value).select(axis, 0)
    return (place * divergence).sum() / (place.sum() + EPSILON)
