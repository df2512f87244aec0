"""Multiply-accumulates of every weighted layer, from the shapes in the traced graph."""

from __future__ import annotations

from math import prod

from torch import fx, nn

from trt_lane.models._folded import TRANSPOSED, weighted_module


def layer_macs(graph_module: fx.GraphModule) -> dict[str, int]:
    """MACs for one frame by module path; a layer that is called twice counts twice."""
    macs: dict[str, int] = {}
    for node in graph_module.graph.nodes:
        layer = weighted_module(graph_module, node)
        if layer is None:
            continue
        if isinstance(layer, nn.Linear):
            count = prod(node.meta["shape"]) * layer.in_features
        else:
            # A convolution uses a kernel once per output place, a transposed one per input place.
            places = node.all_input_nodes[0] if isinstance(layer, TRANSPOSED) else node
            spatial = places.meta["shape"][2:]
            count = prod(spatial) * layer.weight.numel()
        macs[node.target] = macs.get(node.target, 0) + count
    return macs


def share_of(layers: set[str] | tuple[str, ...] | list[str], macs: dict[str, int]) -> float:
    """Share of a network's MACs in those layers, in [0, 1]."""
    return sum(macs[path] for path in set(layers)) / max(sum(macs.values()), 1)
