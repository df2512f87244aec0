"""What reconstruction learns: how weights are rounded, activation steps, and biases."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from calibrators.fake_quant import fake_quantize
from calibrators.observers import fp16_exact
from trt_lane.scales import Scale

# AdaRound's rectified sigmoid (Nagel et al. 2020, eq. 23): h stretched to [-0.1, 1.1] and clipped.
ZETA, GAMMA = 1.1, -0.1


class LearnedRounding(nn.Module):
    """A weight on its grid, each element between its two neighbours: s (floor(W / s) + h(V)).

    AdaRound (Nagel et al. 2020, eq. 22-23). V starts where h is the float fraction, so the first
    forward gives the float weight (inside the clipping range). A parametrisation of `weight`.

    A `temperature` below 1 divides V: towards 0 every element decides for the side its V is on
    while the network still learns to live with it, so that hardening changes nothing. AdaRound's
    regulariser does the same in 10,000 steps; in hundreds it leaves four of five elements of a
    whole network undecided (ours).
    """

    def __init__(self, weight: Tensor, scale: Scale) -> None:
        super().__init__()
        shape = [1] * weight.ndim
        shape[scale.axis] = -1
        step = torch.from_numpy(scale.value).reshape(shape)
        level = weight.detach() / step
        floor = torch.floor(level)
        fraction = ((level - floor) - GAMMA) / (ZETA - GAMMA)
        self.register_buffer("step", step)
        self.register_buffer("floor", floor)
        self.v = nn.Parameter(torch.log(fraction / (1 - fraction)))
        self.qmin, self.qmax = scale.qmin, scale.qmax
        self.hard = False
        self.temperature = 1.0

    def forward(self, _: Tensor) -> Tensor:
        """The weight; the float one that the layer holds is not looked at."""
        up = (self.v >= 0).to(self.floor.dtype) if self.hard else self.h()
        return torch.clamp(self.floor + up, self.qmin, self.qmax) * self.step

    def h(self) -> Tensor:
        """How far each element is rounded up, in [0, 1]."""
        return torch.clamp(torch.sigmoid(self.v / self.temperature) * (ZETA - GAMMA) + GAMMA, 0, 1)

    def regulariser(self, beta: float) -> Tensor:
        """Sum of 1 - |2h - 1|^beta: 0 when every element is decided (eq. 24)."""
        return (1 - (2 * self.h() - 1).abs().pow(beta)).sum()

    def levels(self) -> np.ndarray:
        """The int8 levels after hardening: V >= 0 rounds up."""
        hard = torch.clamp(self.floor + (self.v >= 0), self.qmin, self.qmax)
        return hard.to(torch.int8).numpy()


class LearnedActivation(nn.Module):
    """A tensor's quantiser with a learned step and QDrop's random float elements.

    The step is learned in the log domain, which keeps it positive and makes one learning rate fit
    all tensors; its gradient is LSQ's through fake_quantize. While `drop` is above 0 each element
    stays float with that probability (QDrop, Wei et al. 2022, eq. 9).
    """

    def __init__(self, scale: Scale, drop: float = 0.0) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.tensor(float(np.log(scale.value))))
        self.qmin, self.qmax, self.bits = scale.qmin, scale.qmax, scale.bits
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same out."""
        if self.drop >= 1:
            return x
        quantised = fake_quantize(x, self.log_step.exp(), self.qmin, self.qmax)
        if self.drop <= 0:
            return quantised
        return torch.where(torch.rand_like(x) < self.drop, x, quantised)

    def scale(self) -> Scale:
        """The step as the engine will have it."""
        return Scale(fp16_exact(float(self.log_step.detach().exp())), None, self.bits)


class LearnedBias(nn.Module):
    """A bias that takes up what rounding shifts on average (bias correction, Nagel et al. 2019).

    Biases stay float in TensorRT, so this costs nothing at run time. A parametrisation of `bias`;
    `unit` makes one learning rate fit all layers: an INT8 step of the layer's output.
    """

    def __init__(self, bias: Tensor, unit: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros_like(bias))
        self.unit = unit

    def forward(self, bias: Tensor) -> Tensor:
        """The shifted bias."""
        return bias + self.unit * self.shift


def annealed_beta(step: int, steps: int, warm_up: float = 0.2) -> float | None:
    """The regulariser's exponent: none while warming up, then 20 down to 2 linearly (AdaRound)."""
    start = warm_up * steps
    if step < start:
        return None
    return 20.0 + (2.0 - 20.0) * (step - start) / max(steps - start, 1)


def annealed_temperature(
    step: int, steps: int, last: float, warm_up: float = 0.2, settled: float = 0.9
) -> float:
    """Temperature of the roundings: 1 while warming up, then exponentially down to `last` (ours).

    Args:
        step: from 0.
        steps: of the whole reconstruction.
        last: reached at `settled` of the steps; activation steps learn on with settled roundings.
        warm_up: share of the steps at temperature 1.
        settled: share of the steps after which it stays.
    """
    share = (step / steps - warm_up) / (settled - warm_up)
    return float(last ** min(max(share, 0.0), 1.0))
