"""Tables in which some layers stay in float: what a layer alone, a head alone or a plan means."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from torch import fx

from calibrators.insert import quantisation_sites, quantised_layers, root_of
from calibrators.observers import fp16_exact
from calibrators.units import block_units
from trt_lane.errors import TrtLaneError
from trt_lane.models._folded import heads_of, weighted_module
from trt_lane.scales import Scale, ScaleTable, Site


@dataclass(frozen=True)
class Block:
    """A stretch of the network with weights.

    Attributes:
        name: the path that its layers share, else the first and the last of them; unique.
        layers: module paths in graph order.
    """

    name: str
    layers: tuple[str, ...]


def table_layers(table: ScaleTable) -> list[str]:
    """Module paths of the layers that a table quantises, in its order."""
    return [name.rpartition(".")[0] for name in table.weights]


def without_layers(
    table: ScaleTable, graph_module: fx.GraphModule, layers: Iterable[str]
) -> ScaleTable:
    """The table with those layers in float and the sites that nothing quantised reads any more.

    The sites are decided anew, so that residual adds and concats follow the rules of
    calibrators.insert. A tensor keeps its scale. One that is newly quantised (the other operand of
    a residual add whose convolution went to float) takes the range seen in calibration.

    Args:
        table: of this network.
        graph_module: the folded network.
        layers: module paths; those that are in float already change nothing.
    """
    left_out = set(layers)
    kept = [path for path in table_layers(table) if path not in left_out]
    in_float = set(quantised_layers(graph_module)) - set(kept)
    sites = quantisation_sites(graph_module, in_float)
    nodes = {node.name: node for node in graph_module.graph.nodes}
    by_tensor = {site.tensor: table.activations[site.key] for site in table.sites}
    by_root = {root_of(graph_module, nodes[t]).name: scale for t, scale in by_tensor.items()}
    activations: dict[str, Scale] = {}
    for site in sites:
        root = root_of(graph_module, nodes[site.tensor]).name
        scale = by_tensor.get(site.tensor) or by_root.get(root)
        if scale is not None:
            activations[site.key] = scale
    for site in sites:
        if site.key not in activations:
            activations[site.key] = _seen_range(table, site)
    names = [f"{path}.weight" for path in kept]
    return dataclasses.replace(
        table,
        sites=sites,
        activations=activations,
        weights={name: table.weights[name] for name in names},
        rounded={name: table.rounded[name] for name in names},
        biases={n: b for n, b in table.biases.items() if n.rpartition(".")[0] not in left_out},
    )


def check_weights(table: ScaleTable, graph_module: fx.GraphModule) -> None:
    """A table that was made for other weights is a TrtLaneError."""
    made_for, here = table.digests.get("weights"), graph_module.meta["weights"]
    names = {node.name for node in graph_module.graph.nodes}
    strange = [site.tensor for site in table.sites if site.tensor not in names]
    if strange or made_for not in (None, here):
        raise TrtLaneError(
            f"the scale table was made for other weights (sha256 {str(made_for)[:12]}…, these are "
            f"{here[:12]}…); calibrate again with these weights"
        )


def only_layers(
    table: ScaleTable, graph_module: fx.GraphModule, layers: Iterable[str]
) -> ScaleTable:
    """The table with everything but those layers in float."""
    wanted = set(layers)
    others = [path for path in table_layers(table) if path not in wanted]
    return without_layers(table, graph_module, others)


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


def _seen_range(table: ScaleTable, site: Site) -> Scale:
    bits = next((scale.bits for scale in table.activations.values()), 8)
    qmax = (1 << (bits - 1)) - 1
    return Scale(fp16_exact((table.maxima.get(site.tensor) or 1.0) / qmax), None, bits)
