"""Work of every layer of an ONNX graph: multiply-accumulates, elements moved, channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx

from engines.graph_index import DQ_OP, Q_OP, GraphIndex, node_name
from engines.macs import count_macs

# What a builder does in the layer before or behind, without a trip to memory.
_FREE = (
    "Relu", "Clip", "LeakyRelu", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
    "BatchNormalization", "Add", "Transpose", DQ_OP, Q_OP,
)  # fmt: skip
_MULTIPLIES = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class LayerWork:
    """One layer that multiplies.

    Attributes:
        node: name of its ONNX node.
        op: Conv, ConvTranspose, Gemm or MatMul.
        macs: multiply-accumulates.
        weights: number of weights; 0 for a product of two activations.
        read: elements of its activations.
        written: elements of its result.
        channels_in: over which a group sums: what tensor cores take several of at once.
        channels_out: results per group.
        int8: whether it may run in INT8: it has weights (and Q/DQ, where the graph has any at all).
        int8_result: whether all that read its result want INT8.
    """

    node: str
    op: str
    macs: int
    weights: int
    read: int
    written: int
    channels_in: int
    channels_out: int
    int8: bool
    int8_result: bool


def layer_work(model: onnx.ModelProto) -> list[LayerWork]:
    """Every layer that multiplies, in graph order.

    A graph with Q/DQ says itself what is INT8; in a float graph every layer with weights is taken
    to be, and a result that only such layers read.
    """
    index = GraphIndex(model)
    macs = {entry.node: entry for entry in count_macs(model)}
    explicit = any(node.op_type == Q_OP for node in index.nodes)
    in_int8 = {
        name for name, entry in macs.items() if entry.weighted and (entry.quantised or not explicit)
    }
    found = []
    for node in index.nodes:
        name = node_name(node)
        if name not in macs:
            continue
        entry = macs[name]
        second = index.shape(node.input[1])
        result = index.shape(node.output[0])
        if node.op_type == "Conv":
            channels_in, channels_out = second[1], second[0] // _groups(node)
        elif node.op_type == "ConvTranspose":
            channels_in, channels_out = second[0] // _groups(node), second[1]
        else:
            channels_in, channels_out = entry.macs // max(prod(result), 1), result[-1]
        found.append(
            LayerWork(
                name, entry.op, entry.macs,
                prod(second) if entry.weighted else 0,
                prod(index.shape(node.input[0])) + (0 if entry.weighted else prod(second)),
                prod(result), channels_in, channels_out,
                name in in_int8,
                _read_as_int8(node.output[0], index, in_int8, explicit),
            )
        )  # fmt: skip
    return found


def _groups(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _read_as_int8(tensor: str, index: GraphIndex, in_int8: set[str], explicit: bool) -> bool:
    """Whether every reader takes integers, seen through what a builder fuses."""
    pending, seen, readers = [tensor], set(), 0
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in index.outputs:
            return False
        for node in index.consumers.get(name, []):
            if explicit and node.op_type == Q_OP:
                readers += 1
            elif node.op_type in _MULTIPLIES:
                if explicit or node_name(node) not in in_int8:
                    return False
                readers += 1
            elif node.op_type in _FREE or node.op_type == "MaxPool":
                pending += node.output
            else:
                return False
    return readers > 0
