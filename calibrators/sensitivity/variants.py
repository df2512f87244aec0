"""Runs many mixed forms of one network on the same frames, computing only where they differ."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from calibrators.fake_quant import (
    ActivationQuantizer,
    FixedWeight,
    replace_biases,
    replace_weights,
)
from calibrators.insert import insert_sites
from trt_lane.models._equalised import equalised
from trt_lane.models._folded import weighted_module
from trt_lane.scales import Scale, ScaleTable, Site

# Memory for all tensors of a few frames in the float and in the quantised network.
CHUNK_BYTES = 1 << 29
MOST_FRAMES = 8
FLOAT = "float"  # name of the float form in what `runs` yields
FULL = "full"  # name of the whole table's form

Heads = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Form:
    """A mixed network with what must be computed anew on top of a base."""

    network: fx.GraphModule
    base: str
    nodes: tuple[fx.Node, ...]


class Variants:
    """Mixed forms of one network; weights and quantisers are shared by all.

    Args:
        graph_module: the folded float network.
        table: of the whole quantised network; forms are subsets of it.
    """

    def __init__(self, graph_module: fx.GraphModule, table: ScaleTable) -> None:
        self._activations: dict[tuple, nn.Module] = {}
        self._weights = {n: FixedWeight(table.rounded[n], s) for n, s in table.weights.items()}
        self.graph_module = equalised(graph_module, table.equalised)
        self._bases = {FLOAT: self.graph_module}
        self._bases[FULL] = self.network(table)

    def network(self, table: ScaleTable) -> fx.GraphModule:
        """The fake-quantised network of a table with the same rounded weights."""

        def quantizer(site: Site) -> nn.Module:
            scale: Scale = table.activations[site.key]
            key = (site.key, float(scale.value), scale.bits)
            if key not in self._activations:
                self._activations[key] = ActivationQuantizer(scale)
            return self._activations[key]

        network = insert_sites(self.graph_module, table.sites, quantizer)
        replace_weights(network, {name: self._weights[name] for name in table.weights})
        replace_biases(network, table.biases)
        return network.eval()

    def runs(
        self, tables: Mapping[str, ScaleTable], frames: Tensor
    ) -> Iterator[tuple[slice, dict[str, Heads]]]:
        """Heads of every form, a few frames at a time.

        Args:
            tables: by name; FLOAT and FULL come on their own.
            frames: network inputs float32 (F, 3, h, w).

        Yields:
            Which frames, and heads (n, *shape) by form and head.
        """
        forms = {name: self._form(table) for name, table in tables.items()}
        for part in _parts(self.graph_module, len(frames)):
            with torch.no_grad():
                values = {n: _all_values(g, frames[part]) for n, g in self._bases.items()}
                heads = {n: _heads(g, values[n]) for n, g in self._bases.items()}
                for name, form in forms.items():
                    heads[name] = _run_form(form, values[form.base])
            yield part, heads

    def run_alone(self, table: ScaleTable, frames: Tensor) -> Iterator[tuple[slice, Heads]]:
        """Heads of one form without FLOAT and FULL, a few frames at a time."""
        network = self.network(table)
        for part in _parts(self.graph_module, len(frames)):
            with torch.no_grad():
                heads = network(frames[part])
            yield part, heads

    def _form(self, table: ScaleTable) -> _Form:
        network = self.network(table)
        changed = {name: _changed(base, network) for name, base in self._bases.items()}
        base = min(changed, key=lambda name: _layers_in(network, changed[name]))
        return _Form(network, base, changed[base])


def _parts(graph_module: fx.GraphModule, count: int) -> Iterator[slice]:
    chunk = _frames_at_once(graph_module)
    for start in range(0, count, chunk):
        yield slice(start, min(start + chunk, count))


def _frames_at_once(graph_module: fx.GraphModule) -> int:
    numbers = 0
    for node in graph_module.graph.nodes:
        size = 1
        for side in node.meta.get("shape", (0,)):
            size *= side
        numbers += size
    two_bases = 2 * 4 * numbers  # float32
    return max(1, min(MOST_FRAMES, CHUNK_BYTES // max(two_bases, 1)))


def _all_values(network: fx.GraphModule, frames: Tensor) -> dict[str, object]:
    """The value of every node by its name."""
    interpreter = fx.Interpreter(network, garbage_collect_values=False)
    interpreter.env = {}
    interpreter.args_iter = iter((frames,))
    for node in network.graph.nodes:
        interpreter.env[node] = _run(interpreter, node)
    return {node.name: value for node, value in interpreter.env.items()}


def _run_form(form: _Form, values: Mapping[str, object]) -> Heads:
    interpreter = fx.Interpreter(form.network, garbage_collect_values=False)
    interpreter.env = {}
    for node in form.nodes:
        for source in node.all_input_nodes:
            if source not in interpreter.env:
                interpreter.env[source] = values[source.name]
        interpreter.env[node] = _run(interpreter, node)
    own = {node.name: value for node, value in interpreter.env.items()}
    return _heads(form.network, {**values, **own})


def _run(interpreter: fx.Interpreter, node: fx.Node) -> object:
    """Run a node; one that writes into its input gets a copy, as others read the input too."""
    if not _writes(interpreter.module, node):
        return interpreter.run_node(node)
    kept = {source: interpreter.env[source] for source in node.all_input_nodes}
    interpreter.env.update(
        {source: v.clone() if isinstance(v, Tensor) else v for source, v in kept.items()}
    )
    value = interpreter.run_node(node)
    interpreter.env.update(kept)
    return value


def _writes(network: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(node.target), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    if node.op != "call_function":
        return False
    in_place = node.target in (operator.iadd, operator.isub, operator.imul, operator.itruediv)
    name = getattr(node.target, "__name__", "")
    return in_place or name.endswith("_") or _says_in_place(node)


def _says_in_place(node: fx.Node) -> bool:
    if "inplace" in node.kwargs:
        return bool(node.kwargs["inplace"])
    try:
        parameters = list(inspect.signature(node.target).parameters)
    except (TypeError, ValueError):
        return False
    place = parameters.index("inplace") if "inplace" in parameters else len(node.args)
    return place < len(node.args) and bool(node.args[place])


def _heads(network: fx.GraphModule, values: Mapping[str, object]) -> Heads:
    output = next(node for node in network.graph.nodes if node.op == "output")
    return {name: values[node.name] for name, node in output.args[0].items()}


def _changed(base: fx.GraphModule, network: fx.GraphModule) -> tuple[fx.Node, ...]:
    """Nodes of a form whose value may differ from that of the base's node of the same name."""
    twins = {node.name: node for node in base.graph.nodes}
    changed: dict[fx.Node, None] = {}
    for node in network.graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            continue
        twin = twins.get(node.name)
        same = (
            twin is not None
            and (twin.op, twin.target) == (node.op, node.target)
            and [i.name for i in twin.all_input_nodes] == [i.name for i in node.all_input_nodes]
            and not any(source in changed for source in node.all_input_nodes)
            and _module(base, twin) is _module(network, node)
        )
        if not same:
            changed[node] = None
    return tuple(changed)


def _module(network: fx.GraphModule, node: fx.Node) -> object:
    """What decides a call_module node: its weight quantiser where it has one, else the module."""
    if node.op != "call_module":
        return None
    module = network.get_submodule(node.target)
    if parametrize.is_parametrized(module, "weight"):
        return module.parametrizations["weight"][0]
    return module


def _layers_in(network: fx.GraphModule, nodes: tuple[fx.Node, ...]) -> int:
    return sum(weighted_module(network, node) is not None for node in nodes)
