"""What is reconstructed at once: every layer, every block found in the graph, or the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from trt_lane.models._folded import INPUT, heads_of, weighted_module

# A tensor that is read again only after so many weighted layers is a long skip (a feature pyramid's
# lateral), not the inside of a residual block.
LONG_SKIP_LAYERS = 6


@dataclass(frozen=True)
class Unit:
    """A stretch of the graph.

    Attributes:
        name: of its last node.
        nodes: names of the float graph's nodes in it, in order.
        inputs: names of the tensors from before it that it reads.
        outputs: names of the tensors that are compared.
    """

    name: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def network_unit(graph_module: fx.GraphModule) -> Unit:
    """The whole network, compared at its heads."""
    return _unit(graph_module, _compute_nodes(graph_module), list(heads_of(graph_module).values()))


def layer_units(graph_module: fx.GraphModule) -> list[Unit]:
    """Every weighted layer on its own, compared at its output."""
    nodes = [n for n in graph_module.graph.nodes if weighted_module(graph_module, n) is not None]
    return [_unit(graph_module, [node], [node]) for node in nodes]


def block_units(graph_module: fx.GraphModule) -> list[Unit]:
    """Blocks between the tensors that everything passes through, found in the traced graph.

    Node i ends a block when every tensor made before it is read for the last time by then, long
    skips aside. A stretch without a weighted layer joins the block before it.
    """
    nodes = _compute_nodes(graph_module)
    blocks: list[list[fx.Node]] = []
    current: list[fx.Node] = []
    for i, node in enumerate(nodes):
        current.append(node)
        if _is_boundary(graph_module, nodes, i):
            if blocks and not any(weighted_module(graph_module, n) for n in current):
                blocks[-1] += current
            else:
                blocks.append(current)
            current = []
    if current:
        blocks.append(current)
    heads = set(heads_of(graph_module).values())
    units = []
    for block in blocks:
        inside = set(block)
        ends = [n for n in block if n in heads or any(u not in inside for u in n.users)]
        if any(weighted_module(graph_module, n) for n in block):
            units.append(_unit(graph_module, block, ends or block[-1:]))
    return units


def rest_of(graph_module: fx.GraphModule, unit: Unit) -> Unit:
    """What comes after a unit, up to the heads; it has no nodes when the unit is the last."""
    nodes = _compute_nodes(graph_module)
    last = max(i for i, node in enumerate(nodes) if node.name in unit.nodes)
    heads = tuple(node.name for node in heads_of(graph_module).values())
    if last == len(nodes) - 1:
        return Unit(unit.name, (), heads, heads)
    rest = _unit(graph_module, nodes[last + 1 :], [])
    read = {*rest.inputs, *(name for name in heads if name not in rest.nodes)}
    return Unit(rest.name, rest.nodes, tuple(sorted(read)), heads)


class Stretch:
    """Runs a unit of the quantised network, whose graph has the float graph's nodes and more."""

    def __init__(self, graph_module: fx.GraphModule, unit: Unit) -> None:
        self.unit = unit
        self._interpreter = fx.Interpreter(graph_module, garbage_collect_values=False)
        self._nodes = _with_inserted(graph_module, unit)
        self._by_name = {n.name: n for n in graph_module.graph.nodes}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, from the tensors named in `unit.inputs`."""
        env: dict[fx.Node, Any] = {self._by_name[n]: inputs[n] for n in self.unit.inputs}
        self._interpreter.env = env
        for node in self._nodes:
            if node not in env:
                env[node] = self._interpreter.run_node(node)
        return {name: env[self._by_name[name]] for name in self.unit.outputs}


class StretchToHeads:
    """Runs a unit of the quantised network, and the float network behind it.

    Attributes:
        unit: what it reads, and the heads that it gives; its nodes are those of the unit alone.
    """

    def __init__(self, quantised: fx.GraphModule, graph_module: fx.GraphModule, unit: Unit) -> None:
        rest = rest_of(graph_module, unit)
        self._unit, self._rest = Stretch(quantised, unit), Stretch(graph_module, rest)
        passing = tuple(n for n in rest.inputs if n not in unit.nodes and n not in unit.inputs)
        self.unit = Unit(unit.name, unit.nodes, (*unit.inputs, *passing), rest.outputs)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Heads by node name, from the tensors named in `unit.inputs`."""
        tensors = {**inputs, **self._unit({n: inputs[n] for n in self._unit.unit.inputs})}
        return self._rest({name: tensors[name] for name in self._rest.unit.inputs})


def _compute_nodes(graph_module: fx.GraphModule) -> list[fx.Node]:
    skipped = ("placeholder", "get_attr", "output")
    return [n for n in graph_module.graph.nodes if n.op not in skipped]


def _is_boundary(graph_module: fx.GraphModule, nodes: list[fx.Node], i: int) -> bool:
    if "shape" not in nodes[i].meta:
        return False
    position = {n: k for k, n in enumerate(nodes)}
    image = next(n for n in graph_module.graph.nodes if n.name == INPUT)
    for maker in [image, *nodes[:i]]:
        later = [u for u in maker.users if position.get(u, len(nodes)) > i and u.op != "output"]
        if not later:
            continue
        between = nodes[i + 1 : min(position[u] for u in later)]
        layers = sum(weighted_module(graph_module, n) is not None for n in between)
        if layers < LONG_SKIP_LAYERS:
            return False
    return True


def _unit(graph_module: fx.GraphModule, nodes: list[fx.Node], ends: list[fx.Node]) -> Unit:
    inside = set(nodes)
    inputs = []
    for node in nodes:
        for source in node.all_input_nodes:
            if source not in inside and source.op != "get_attr" and source.name not in inputs:
                inputs.append(source.name)
    return Unit(
        nodes[-1].name,
        tuple(n.name for n in nodes),
        tuple(inputs),
        tuple(n.name for n in ends),
    )


def _with_inserted(graph_module: fx.GraphModule, unit: Unit) -> list[fx.Node]:
    """The unit's nodes in the quantised graph, with the quantisers and constants they read."""
    wanted = set(unit.nodes)
    kept: set[fx.Node] = set()
    for node in reversed(graph_module.graph.nodes):
        needed = node.name in wanted or any(user in kept for user in node.users)
        if needed and node.name not in unit.inputs and node.op not in ("placeholder", "output"):
            kept.add(node)
    return [n for n in graph_module.graph.nodes if n in kept]
