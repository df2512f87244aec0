"""What the readers of each float tensor of a Q/DQ graph want: integer steps, or exact floats."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from engines.cpu_units import WEIGHTED, has_integer_inputs
from engines.graph_index import Q_OP, GraphIndex, attributes

# Operators that move values and compute nothing: quantisation commutes with them.
_MOVES = ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity")
_NEVER_NEGATIVE = ("Relu", "Sigmoid", "Softmax", "Abs")


@dataclass
class Demand:
    """Per float tensor.

    Attributes:
        steps: the steps at which quantisers read it, directly or behind moves.
        exact: whether a layer kept in float reads it, or it reaches an output of the graph without
            being quantised on the way: rounding it to 8 bits would round the network's answer.
        never_negative: it is the result of a ReLU or the like.
        signed: a reader needs it with room for negative values (a concat with a signed operand).
    """

    steps: set[float] = field(default_factory=set)
    exact: bool = False
    never_negative: bool = False
    signed: bool = False

    @property
    def zero(self) -> int:
        """Zero point of its uint8 form."""
        return 0 if self.never_negative and not self.signed else 128


def find_demands(index: GraphIndex) -> dict[str, Demand]:
    """Demand of every tensor of the graph."""
    demands = {t: Demand() for n in index.nodes for t in (*n.input, *n.output)}
    for node in index.nodes:
        if _never_negative(node, index, demands):
            for tensor in node.output:
                demands[tensor].never_negative = True
    for tensor in index.outputs:
        demands.setdefault(tensor, Demand()).exact = True
    for node in reversed(index.nodes):
        _pull(node, index, demands)
    return demands


def is_move(node: onnx.NodeProto) -> bool:
    """Whether the node only moves values of its first input."""
    if node.op_type == "Resize":
        return attributes(node).get("mode", "nearest") == "nearest"
    return node.op_type in _MOVES and len(node.output) == 1


def clip_bounds(node: onnx.NodeProto, index: GraphIndex) -> tuple[float, float]:
    """Lower and upper bound of a Relu or Clip with constant bounds; NaN when they are computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    bounds = [-np.inf, np.inf]
    for i, name in enumerate(node.input[1:3]):
        if name:
            value = index.array(name)
            bounds[i] = np.nan if value is None else float(value)
    return bounds[0], bounds[1]


def _never_negative(node: onnx.NodeProto, index: GraphIndex, demands: dict[str, Demand]) -> bool:
    if node.op_type == "Clip":
        return clip_bounds(node, index)[0] >= 0
    if node.op_type == "Concat":
        return all(demands[i].never_negative for i in node.input)
    if is_move(node):
        return demands[node.input[0]].never_negative
    return node.op_type in _NEVER_NEGATIVE


def _pull(node: onnx.NodeProto, index: GraphIndex, demands: dict[str, Demand]) -> None:
    """Add to the node's inputs what it wants for its own readers."""
    if node.op_type == Q_OP:
        scale = index.activation_scale(node)
        demands[node.input[0]].steps |= set() if scale is None else {scale}
        # A quantiser that we cannot take over computes on the exact value.
        demands[node.input[0]].exact |= scale is None
        return
    outs = [demands[t] for t in node.output if t]
    if node.op_type in ("Shape", "Size"):
        return  # they read no value
    if node.op_type in WEIGHTED and not has_integer_inputs(node, index):
        # A recipe that keeps a layer in float wants it to read floats.
        demands[node.input[0]].exact = True
    passing = node.input if node.op_type == "Concat" else node.input[:1] if is_move(node) else ()
    for tensor in node.input:
        wanted = demands[tensor]
        wanted.exact |= any(o.exact for o in outs)
        if tensor in passing:
            wanted.steps |= outs[0].steps
            wanted.signed |= outs[0].zero == 128
