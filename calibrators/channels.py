"""Which channels of a network must carry one factor for its function to stay as it is.

Convolutions and linear layers can take up a factor on any output or input channel; ReLU and its
like, pools, views and concats pass it on; an addition wants the same one on both sides; everything
else (a softmax, a normalisation, a head) fixes it at 1.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from calibrators.insert import ADDS, CONCATS, passes_values_on
from trt_lane.models._folded import BATCH_NORMS, WEIGHTED

FIXED = 0
# f(s x) = s f(x) for every s > 0, element by element.
_POINTWISE_MODULES = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity)
_POINTWISE = (
    *(torch.relu, F.relu, F.leaky_relu, F.prelu, torch.prelu, "relu", "relu_"),
    *("contiguous", "clone"),
)
# The same for every channel of (N, C, ...) on its own.
_SPATIAL_MODULES = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool2d, nn.Upsample),
)
_SPATIAL = (
    *(F.max_pool1d, F.max_pool2d, torch.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d),
    F.interpolate,
)
_SUBTRACTIONS = (operator.sub, operator.isub, torch.sub)
_SCALINGS = (operator.mul, operator.imul, operator.truediv, torch.mul, torch.div)


@dataclass(frozen=True, eq=False)
class Channels:
    """Classes of channels that share a factor; class FIXED has factor 1.

    Attributes:
        count: number of classes.
        outputs: by module path, the class of each output channel of a layer or batch norm.
        inputs: likewise, of its input channels.
        tensors: by graph node, the axis that runs over classes and the class of each place on it;
            tensors in which every class is FIXED are left out.
    """

    count: int
    outputs: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    tensors: dict[str, tuple[int, np.ndarray]]


def channels_of(graph_module: fx.GraphModule) -> Channels:
    """The classes of a folded network."""
    walk = _Walk(graph_module)
    for node in graph_module.graph.nodes:
        walk.visit(node)
    return walk.result()


class _Walk:
    """Follows ids of channels through the graph; ids that must agree are merged (union-find)."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        self.graph_module = graph_module
        self.parent = [FIXED]
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        # Ids at every place of a tensor; axes on which they do not change have stride 0.
        self.values: dict[fx.Node, Any] = {}

    def visit(self, node: fx.Node) -> None:
        """Give a node its ids, or None where it holds no float tensor."""
        if node.op == "output":
            self._fix(node.all_input_nodes)
        elif node.op in ("placeholder", "get_attr"):
            self.values[node] = self._fixed(node)
        else:
            self.values[node] = self._ids(node)

    def result(self) -> Channels:
        roots = np.array([self._root(i) for i in range(len(self.parent))])
        tensors = {}
        for node, value in self.values.items():
            found = _along(value) if isinstance(value, Tensor) else None
            if found is not None and (roots[found[1].numpy()] != FIXED).any():
                tensors[node.name] = (found[0], roots[found[1].numpy()])
        outputs, inputs = (
            {path: roots[ids.numpy()] for path, ids in group.items()}
            for group in (self.outputs, self.inputs)
        )
        return Channels(len(roots), outputs, inputs, tensors)

    def _ids(self, node: fx.Node) -> Any:
        module = self._module(node)
        known = bool(node.all_input_nodes) and all(
            self.values[source] is not None for source in node.all_input_nodes
        )
        if known and (isinstance(module, WEIGHTED) or _is_affine(module)):
            return self._layer(node, module)
        if known and self._is_homogeneous(node, module):
            source = node.all_input_nodes[0]
            found = _along(self.values[source])
            if found is not None and (found[0] == 1 or self._is_pointwise(node, module)):
                return _spread(found[1], found[0], node.meta["shape"])
        elif known and (passes_values_on(self.graph_module, node) or node.target in CONCATS):
            return self._run(node)
        elif known and _is_sum(node):
            left, right = (self.values[source] for source in node.args[:2])
            self._merge(left, right)
            return left
        self._fix(node.all_input_nodes)
        return self._fixed(node)

    def _fixed(self, node: fx.Node) -> Tensor | None:
        return torch.full((1,), FIXED).expand(node.meta["shape"]) if "shape" in node.meta else None

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.graph_module.get_submodule(node.target) if node.op == "call_module" else None

    def _layer(self, node: fx.Node, module: nn.Module) -> Tensor:
        """A layer that is called twice has the same channels both times."""
        source, axis = node.all_input_nodes[0], -1 if isinstance(module, nn.Linear) else 1
        value, shape = self.values[source], source.meta["shape"]
        axis %= len(shape)
        found = _along(value, axis)
        if found is None:
            self._fix([source])
            ids = torch.full((shape[axis],), FIXED)
        else:
            ids = found[1]
        if node.target in self.inputs:
            self._merge(self.inputs[node.target], ids)
        else:
            self.inputs[node.target] = ids
            size = node.meta["shape"][axis]
            self.outputs[node.target] = torch.arange(len(self.parent), len(self.parent) + size)
            self.parent += range(len(self.parent), len(self.parent) + size)
        return _spread(self.outputs[node.target], axis, node.meta["shape"])

    def _is_homogeneous(self, node: fx.Node, module: nn.Module | None) -> bool:
        if module is not None:
            return isinstance(module, _SPATIAL_MODULES) or self._is_pointwise(node, module)
        return node.target in _SPATIAL or self._is_pointwise(node, module)

    def _is_pointwise(self, node: fx.Node, module: nn.Module | None) -> bool:
        if module is not None:
            return isinstance(module, _POINTWISE_MODULES)
        if node.target in _SCALINGS:
            return isinstance(node.args[0], fx.Node) and isinstance(node.args[1], (int, float))
        return node.target in _POINTWISE

    def _run(self, node: fx.Node) -> Any:
        """Views and concats do to ids what they do to numbers."""
        interpreter = fx.Interpreter(self.graph_module, garbage_collect_values=False)
        interpreter.env = {
            source: value.contiguous() if isinstance(value, Tensor) else value
            for source in node.all_input_nodes
            if (value := self.values[source]) is not None
        }
        return interpreter.run_node(node)

    def _fix(self, nodes: Iterable[fx.Node]) -> None:
        for node in nodes:
            value = self.values[node]
            for part in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(part, Tensor):
                    found = _along(part)
                    for i in (part if found is None else found[1]).unique().tolist():
                        self._join(i, FIXED)

    def _merge(self, left: Tensor, right: Tensor) -> None:
        both = (_along(left), _along(right))
        if None not in both and both[0][0] == both[1][0]:
            left, right = both[0][1], both[1][1]
        pairs = torch.stack((left.flatten(), right.flatten()), 1).unique(dim=0)
        for a, b in pairs.tolist():
            self._join(a, b)

    def _join(self, a: int, b: int) -> None:
        a, b = self._root(a), self._root(b)
        self.parent[max(a, b)] = min(a, b)  # FIXED is the smallest and wins

    def _root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i


def _is_affine(module: nn.Module | None) -> bool:
    """Whether it is a batch norm that was not folded and can take up factors."""
    return (
        isinstance(module, BATCH_NORMS)
        and module.weight is not None
        and module.running_mean is not None
    )


def _is_sum(node: fx.Node) -> bool:
    operands = node.args[:2]
    return (
        node.target in (*ADDS, *_SUBTRACTIONS)
        and len(operands) == 2
        and all(isinstance(o, fx.Node) for o in operands)
        and operands[0].meta.get("shape") == operands[1].meta.get("shape")
    )


def _spread(ids: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
    """Ids along an axis as a tensor of that shape, without memory of its own."""
    view = [1] * len(shape)
    view[axis] = -1
    return ids.view(view).expand(shape)


def _along(value: Tensor, axis: int | None = None) -> tuple[int, Tensor] | None:
    """The axis on which ids change (or the one asked for) and the ids on it; None for several."""
    axes = range(value.ndim) if axis is None else (axis,)
    for candidate in axes:
        ids = value
        for other in reversed(range(value.ndim)):
            if other != candidate:
                ids = ids.select(other, 0)
        spread = _spread(ids.contiguous(), candidate, tuple(value.shape))
        if torch.equal(spread, value):
            return candidate, ids.contiguous()
    return None
