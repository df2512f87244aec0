"""Sensitivity between heads and inside each: whose error, and where, bends the lanes.

The two questions are those of Selective Focus (AAAI 2024, arXiv 2405.06264); it published no code,
so the ways of measuring are our reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibrators.confidence import confidence_map, on_grid
from calibrators.selective_focus import (
    Decoder,
    SensitivityCurve,
    channel_power,
    decode_all,
    inter_head_sensitivity,
)
from trt_lane.metrics.lane_distortion import mean_lane_distortion_score
from trt_lane.model import Head

Heads = Mapping[str, Tensor]

# Multiples of the head's own quantisation noise that are tried until lanes move by VISIBLE_PX.
NOISE_FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
VISIBLE_PX = 0.2


@dataclass(frozen=True)
class NoiseTest:
    """Noise of equal energy on the foreground and on the background of a head.

    Attributes:
        factor: its root mean square over that of the head's own quantisation error.
        foreground_px, background_px: mean LDS by seed.
        foreground_share: share of the head's places that are foreground.
        frames: frames that have both.
    """

    factor: float
    foreground_px: tuple[float, ...]
    background_px: tuple[float, ...]
    foreground_share: float
    frames: int


@dataclass(frozen=True)
class HeadSensitivity:
    """What one head's quantisation does to the lanes.

    Attributes:
        name, semantics: of the head.
        error: mean squared error over the float head's mean square.
        distortion_px: LDS when this output alone is the quantised network's.
        own_layers: weighted layers that lead to this head only.
        own_distortion_px: LDS when only those are quantised; 0 when there are none.
        curve: S_h(a), LDS against the share of the error.
        noise: None for a head without a confidence, or without foreground on these frames.
    """

    name: str
    semantics: str
    error: float
    distortion_px: float
    own_layers: tuple[str, ...]
    own_distortion_px: float
    curve: SensitivityCurve
    noise: NoiseTest | None


def head_sensitivity(
    head: Head,
    decoder: Decoder,
    floats: Heads,
    quantised: Heads,
    own: Heads,
    own_layers: tuple[str, ...],
    seeds: Sequence[int] = (0, 1, 2),
) -> HeadSensitivity:
    """Measure one head.

    Args:
        head: which.
        decoder: the model's.
        floats: all heads of the float network, (F, *shape).
        quantised: those of the quantised network.
        own: all heads when only `own_layers` are quantised.
        own_layers: the layers that lead to this head alone.
        seeds: of the noise.
    """
    curve = inter_head_sensitivity(decoder, floats, quantised, head.name)
    reference = decode_all(decoder, floats)
    moved = decode_all(decoder, own) if own_layers else reference
    return HeadSensitivity(
        head.name,
        head.semantics,
        relative_error(quantised[head.name], floats[head.name]),
        curve.at(1.0),
        own_layers,
        mean_lane_distortion_score(reference, moved),
        curve,
        intra_head_sensitivity(head, decoder, floats, quantised, seeds),
    )


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Mean squared difference over the reference's mean square."""
    power = float(reference.double().square().mean())
    return float((value.double() - reference.double()).square().mean()) / max(power, 1e-30)


def intra_head_sensitivity(
    head: Head,
    decoder: Decoder,
    floats: Heads,
    quantised: Heads,
    seeds: Sequence[int] = (0, 1, 2),
) -> NoiseTest | None:
    """LDS of Gaussian noise of equal energy on lane places and on the rest of a head.

    Foreground is where the float confidence is above the decoder's threshold. Each semantic channel
    gets noise in proportion to its deviation, as |D|² / power is what reconstruction minimises. The
    energy is that of the head's quantisation error, raised until lanes move.
    """
    if head.confidence is None:
        return None
    value = floats[head.name]
    confidence = confidence_map(head.confidence, floats)
    mask = on_grid(head, confidence, value) > head.confidence.threshold
    mask = mask.expand_as(value)
    both = [i for i in range(len(value)) if mask[i].any() and not mask[i].all()]
    if not both:
        return None
    floats = {name: v[both] for name, v in floats.items()}
    value, mask = value[both], mask[both]
    power = channel_power(head, floats)
    difference = (quantised[head.name][both] - value).square() / power
    energy = float(difference.sum()) / len(both) or 1e-6 * value[0].numel()
    reference = decode_all(decoder, floats)
    for factor in NOISE_FACTORS:
        distortions = []
        for place in (mask, ~mask):
            found = []
            for seed in seeds:
                noise = _noise(place, power, energy * factor**2, seed)
                moved = decode_all(decoder, {**floats, head.name: value + noise})
                found.append(mean_lane_distortion_score(reference, moved))
            distortions.append(tuple(found))
        if max(np.mean(d) for d in distortions) >= VISIBLE_PX:
            break
    share = float(mask.double().mean())
    return NoiseTest(factor, distortions[0], distortions[1], share, len(both))


def _noise(place: Tensor, power: Tensor, energy: float, seed: int) -> Tensor:
    """Noise of that energy per frame, in units of the channels' power, on those places only."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(place.shape, generator=generator) * place
    axes = tuple(range(1, drawn.ndim))
    own = drawn.square().sum(axes, keepdim=True).clamp_min(1e-30)
    return drawn * (math.sqrt(energy) / own.sqrt()) * power.sqrt()
