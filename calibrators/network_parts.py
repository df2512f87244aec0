"""Parts of a network as layers: its blocks, and what belongs to one head alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from calibrators.units import block_units
from trt_lane.models._folded import heads_of, weighted_module


@dataclass(frozen=True)
class Block:
    """A stretch of the network with weights.

    Attributes:
        name: the path that its layers share, else the first and the last of them; unique.
        layers: module paths in graph order.
    """

    name: str
    layers: tuple[str, ...]


def head_layers(graph_module: fx.GraphModule) -> dict[str, tuple[str, ...]]:
    """Each head's own layers: those from which no other head can be reached, in graph order.

    In a network of one head everything leads to it: its own layers are then those of the last
    block.
    """
    heads = heads_of(graph_module)
    if len(heads) == 1:
        return {next(iter(heads)): blocks(graph_module)[-1].layers}
    reached: dict[fx.Node, set[str]] = {}
    for node in reversed(graph_module.graph.nodes):
        reached[node] = {name for name, end in heads.items() if end is node}
        for user in node.users:
            reached[node] |= reached.get(user, set())
    of_layer: dict[str, set[str]] = {}
    for node in graph_module.graph.nodes:
        if weighted_module(graph_module, node) is not None:
            of_layer.setdefault(node.target, set()).update(reached[node])
    return {
        name: tuple(path for path, ends in of_layer.items() if ends == {name}) for name in heads
    }


def blocks(graph_module: fx.GraphModule) -> list[Block]:
    """The blocks that reconstruction works on, as layers; a layer belongs to its first block."""
    nodes = {node.name: node for node in graph_module.graph.nodes}
    seen: set[str] = set()
    found = []
    for unit in block_units(graph_module):
        layers = []
        for name in unit.nodes:
            path = nodes[name].target
            if weighted_module(graph_module, nodes[name]) is not None and path not in seen:
                seen.add(path)
                layers.append(path)
        if layers:
            name = _common_path(layers) or f"{layers[0]} … {layers[-1]}"
            if name in {block.name for block in found}:
                name = f"{name} ({unit.name})"
            found.append(Block(name, tuple(layers)))
    return found


def _common_path(layers: list[str]) -> str:
    """The longest module path that all layers are in; the layer itself when there is one."""
    if len(layers) == 1:
        return layers[0]
    parts = [path.split(".") for path in layers]
    common = []
    for atoms in zip(*parts, strict=False):
        if len(set(atoms)) > 1:
            break
        common.append(atoms[0])
    return ".".join(common)
