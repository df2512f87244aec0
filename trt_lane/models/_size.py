"""How large a network is, without allocating its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from trt_lane.model import LaneModel


@dataclass(frozen=True)
class NetworkSize:
    """Learned numbers, and multiply-accumulates of one frame (convolutions and matrix products)."""

    parameters: int
    macs: int


def network_size(model: LaneModel) -> NetworkSize:
    """Measure on torch's meta device, which knows shapes and holds no data."""
    with torch.device("meta"):
        network = model.build()
        frame = torch.empty(1, 3, *model.image.input_hw)
    parameters = sum(p.numel() for p in network.parameters())
    # Without gradients: the counter would look for backward functions that a frozen part lacks.
    network.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        network(frame)
    return NetworkSize(parameters, counter.get_total_flops() // 2)
