"""What the fake-quantised network makes of a few frames, for `engines verify` to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from calibrators.fake_quant import ActivationQuantizer, quantised_network
from trt_lane.files import atomic_write
from trt_lane.scales import ScaleTable

SCHEMA = 3  # 1 had no levels, 2 not the heads that follow from them
REFERENCE_FRAMES = 8


def save_reference(
    path: Path, graph_module: fx.GraphModule, table: ScaleTable, frames: Tensor
) -> None:
    """Write images, float and quantised heads of the first frames (F, 3, h, w) as .npz.

    Of the very first frame the levels of every quantised tensor are kept, too, int8 by the name of
    its graph node, with the heads that follow from them, and the biases that were learned.
    """
    frames = frames[:REFERENCE_FRAMES]
    network = quantised_network(graph_module, table)
    with torch.no_grad():
        heads, floats = network(frames), graph_module(frames)
        levels = _Levels(network)
        # Its own heads: another batch size adds up in another order, and roundings flip.
        first = levels.run(frames[:1])
    arrays = {f"quantised/{k}": v.numpy() for k, v in heads.items()}
    arrays |= {f"float/{k}": v.numpy() for k, v in floats.items()}
    arrays |= {f"first/{k}": v.numpy() for k, v in first.items()}
    arrays |= {f"levels/{k}": v for k, v in levels.found.items()}
    arrays |= {f"bias/{k}": v for k, v in table.biases.items()}
    with atomic_write(path) as file:
        np.savez_compressed(file, schema=SCHEMA, image=frames.numpy(), **arrays)


class _Levels(fx.Interpreter):
    """Keeps what every activation quantiser rounds to."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.found: dict[str, np.ndarray] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and note its levels."""
        value = super().run_node(n)
        module = self.module.get_submodule(n.target) if n.op == "call_module" else None
        if isinstance(module, ActivationQuantizer):
            levels = torch.round(value / module.scale).to(torch.int8)
            self.found[n.args[0].name] = levels.numpy()
        return value
