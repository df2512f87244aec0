"""Heads of the fake-quantised network on a few frames, for `engines verify` to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx

from calibrators.fake_quant import quantised_network
from trt_lane.files import atomic_write
from trt_lane.scales import ScaleTable

REFERENCE_FRAMES = 8


def save_reference(
    path: Path, graph_module: fx.GraphModule, table: ScaleTable, frames: Tensor
) -> None:
    """Write image, float and quantised heads of the first frames (F, 3, h, w) as .npz."""
    frames = frames[:REFERENCE_FRAMES]
    with torch.no_grad():
        heads = quantised_network(graph_module, table)(frames)
        floats = graph_module(frames)
    arrays = {f"quantised/{k}": v.numpy() for k, v in heads.items()}
    arrays |= {f"float/{k}": v.numpy() for k, v in floats.items()}
    with atomic_write(path) as file:
        np.savez_compressed(file, image=frames.numpy(), **arrays)
