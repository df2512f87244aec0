"""Tables in which some layers stay in float: what a layer alone, a head alone or a plan means."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from torch import fx

from calibrators.insert import quantisation_sites, quantised_layers, root_of
from calibrators.observers import fp16_exact
from trt_lane.errors import TrtLaneError
from trt_lane.scales import Scale, ScaleTable, Site


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


def _seen_range(table: ScaleTable, site: Site) -> Scale:
    bits = next((scale.bits for scale in table.activations.values()), 8)
    qmax = (1 << (bits - 1)) - 1
    return Scale(fp16_exact((table.maxima.get(site.tensor) or 1.0) / qmax), None, bits)
