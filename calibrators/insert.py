"""Where TensorRT wants Q/DQ: decides the quantisation sites of a folded network and inserts them.

The rules are TensorRT's (explicit quantisation, ../shared design notes and NVIDIA's developer
guide): inputs of weighted layers are quantised, outputs are not; at a residual add only the
identity operand is; operands of a concat share one scale; views and max-pool keep their input's.
"""

from __future__ import annotations

import copy
import difflib
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import fx, nn

from trt_lane.errors import TrtLaneError
from trt_lane.models._folded import CONVOLUTIONS, TRANSPOSED, weighted_module
from trt_lane.scales import Site

ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
CONCATS = (torch.cat, torch.concat, torch.concatenate)
_VIEWS = (
    *("reshape", "view", "flatten", "permute", "transpose", "unsqueeze", "squeeze", "expand"),
    *("t", "chunk", "split", "unflatten"),
    *(torch.reshape, torch.flatten, torch.permute, torch.transpose, torch.unsqueeze),
    *(torch.squeeze, torch.chunk, torch.split, operator.getitem),
    *(F.max_pool1d, F.max_pool2d, torch.max_pool2d),
)
_VIEW_MODULES = (nn.Flatten, nn.Unflatten, nn.MaxPool1d, nn.MaxPool2d)


@dataclass
class _Plan:
    """Sites under construction."""

    users: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)  # tensor -> users
    joined: dict[fx.Node, fx.Node] = field(default_factory=dict)  # root -> root it shares with

    def demand(self, tensor: fx.Node, user: fx.Node) -> None:
        users = self.users.setdefault(tensor, [])
        if user not in users:
            users.append(user)

    def group(self, root: fx.Node) -> fx.Node:
        while root in self.joined:
            root = self.joined[root]
        return root

    def join(self, a: fx.Node, b: fx.Node) -> None:
        a, b = self.group(a), self.group(b)
        if a is not b:
            self.joined[a] = b


def quantisation_sites(
    graph_module: fx.GraphModule, float_layers: Iterable[str] = ()
) -> tuple[Site, ...]:
    """All sites of a folded network, in graph order.

    Args:
        graph_module: from trt_lane.models._folded.fold.
        float_layers: module paths whose layers (and everything below them) stay in float.
    """
    plan = _Plan()
    order = {node: i for i, node in enumerate(graph_module.graph.nodes)}
    depth = _depths(graph_module)
    quantised = set(quantised_layers(graph_module, float_layers))
    for node in graph_module.graph.nodes:
        if node.op == "call_module" and node.target in quantised:
            plan.demand(node.all_input_nodes[0], node)
        elif node.op != "call_module" and node.target in ADDS:
            for operand in _identity_operands(graph_module, node, quantised, depth):
                plan.demand(operand, node)
    for node in reversed(graph_module.graph.nodes):
        if node.target in CONCATS:
            _quantise_concat(graph_module, plan, node)
    keys = {t: plan.group(root_of(graph_module, t)).name for t in plan.users}
    tensors = sorted(plan.users, key=order.__getitem__)
    return tuple(Site(t.name, tuple(u.name for u in plan.users[t]), keys[t]) for t in tensors)


def quantised_layers(graph_module: fx.GraphModule, float_layers: Iterable[str] = ()) -> list[str]:
    """Module paths of the weighted layers that are quantised, in graph order, each once.

    Raises:
        TrtLaneError: a path in `float_layers` has no weighted layer at or below it.
    """
    nodes = graph_module.graph.nodes
    weighted = (n.target for n in nodes if weighted_module(graph_module, n) is not None)
    layers = list(dict.fromkeys(weighted))
    in_float: set[str] = set()
    for path in float_layers:
        below = [layer for layer in layers if layer == path or layer.startswith(f"{path}.")]
        if not below:
            close = difflib.get_close_matches(path, layers, 3, 0) or ["none"]
            raise TrtLaneError(
                f"float layer {path!r} is no layer with weights, nor above one; nearest: "
                f"{', '.join(close)}; mend float_layers in the model's file"
            )
        in_float.update(below)
    return [layer for layer in layers if layer not in in_float]


def root_of(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The tensor whose values a node passes on: back through views and max-pools."""
    while node.all_input_nodes and passes_values_on(graph_module, node):
        node = node.all_input_nodes[0]
    return node


def insert_sites(
    graph_module: fx.GraphModule, sites: Iterable[Site], make: Callable[[Site], nn.Module]
) -> fx.GraphModule:
    """A copy of the network (weights shared) with a module on every site.

    Args:
        graph_module: the folded network.
        sites: where.
        make: called once per key, with the first site of that key.
    """
    result = copy.copy(graph_module)
    result.graph = copy.deepcopy(graph_module.graph)
    nodes = {node.name: node for node in result.graph.nodes}
    made: dict[str, str] = {}
    for site in sites:
        if site.key not in made:
            made[site.key] = f"quantize_{site.key}"
            result.add_module(made[site.key], make(site))
        tensor = nodes[site.tensor]
        with result.graph.inserting_after(tensor):
            call = result.graph.call_module(made[site.key], (tensor,))
        for user in site.users:
            nodes[user].replace_input_with(tensor, call)
    result.graph.lint()
    result.recompile()
    return result


def _identity_operands(
    graph_module: fx.GraphModule, add: fx.Node, quantised: set[str], depth: dict[fx.Node, int]
) -> list[fx.Node]:
    """Operands of a residual add to quantise: all but the convolution that fuses with it."""
    operands = [a for a in add.args[:2] if isinstance(a, fx.Node) and "shape" in a.meta]
    if len(operands) < 2 or operands[0].meta["shape"] != operands[1].meta["shape"]:
        return []
    fusible = [
        o
        for o in operands
        if isinstance(weighted_module(graph_module, o), (*CONVOLUTIONS, *TRANSPOSED))
        and o.target in quantised
        and len(o.users) == 1
    ]
    if not fusible:
        return []
    fused = max(fusible, key=depth.__getitem__)  # the long branch, not the shortcut
    return [o for o in operands if o is not fused and o.op != "get_attr"]


def _depths(graph_module: fx.GraphModule) -> dict[fx.Node, int]:
    """Longest way from the input to every node, in nodes."""
    depth: dict[fx.Node, int] = {}
    for node in graph_module.graph.nodes:
        depth[node] = max((depth[i] for i in node.all_input_nodes), default=-1) + 1
    return depth


def _quantise_concat(graph_module: fx.GraphModule, plan: _Plan, concat: fx.Node) -> None:
    """When a concat's result is quantised, quantise its operands with the same scale.

    With a constant among them it runs in float whatever we do: then only its result is quantised.
    """
    reached = [t for t in plan.users if root_of(graph_module, t) is concat]
    operands = concat.args[0] if concat.args else concat.kwargs["tensors"]
    if not reached or any(root_of(graph_module, o).op == "get_attr" for o in operands):
        return
    for operand in operands:
        plan.demand(operand, concat)
        plan.join(root_of(graph_module, operand), concat)


def passes_values_on(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a view or a max-pool: its values are some of its input's."""
    if node.op == "call_module":
        return isinstance(graph_module.get_submodule(node.target), _VIEW_MODULES)
    return node.op in ("call_function", "call_method") and node.target in _VIEWS
