"""Multiply-accumulates of every node of an ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx

from engines.graph_index import DQ_OP, GraphIndex, attributes, node_name


@dataclass(frozen=True)
class NodeMacs:
    """Work of one node.

    Attributes:
        node: name of the ONNX node, or the one TensorRT gives to an unnamed node.
        op: Conv, ConvTranspose, Gemm or MatMul.
        macs: multiply-accumulates for the graph's static batch size.
        weighted: the second operand is a constant (a layer with weights), as opposed to a product
            of two activations (attention).
        quantised: both operands come from a DequantizeLinear.
    """

    node: str
    op: str
    macs: int
    weighted: bool
    quantised: bool


def count_macs(model: onnx.ModelProto) -> list[NodeMacs]:
    """MACs of all convolutions and matrix products, in graph order."""
    index = GraphIndex(model)
    found = []
    for node in index.nodes:
        if node.op_type in _COUNT:
            found.append(
                NodeMacs(
                    node_name(node),
                    node.op_type,
                    _COUNT[node.op_type](node, index),
                    _is_constant(node.input[1], index),
                    all(_is_dequantised(i, index) for i in node.input[:2]),
                )
            )
    return found


def quantised_share(work: list[NodeMacs]) -> float:
    """Share of the weighted layers' MACs that the graph has between Q/DQ; 1.0 without layers.

    It is what a plan of calibration means by its share. An engine may run some of them in float,
    which its audit tells (engines.layer_table.coverage): never more.
    """
    layers = [node for node in work if node.weighted]
    total = sum(node.macs for node in layers)
    return sum(node.macs for node in layers if node.quantised) / total if total else 1.0


def _conv(node: onnx.NodeProto, index: GraphIndex) -> int:
    weight = index.shape(node.input[1])  # (Cout, Cin / groups, kh, kw)
    return prod(index.shape(node.output[0])) * prod(weight[1:])


def _conv_transpose(node: onnx.NodeProto, index: GraphIndex) -> int:
    weight = index.shape(node.input[1])  # (Cin, Cout / groups, kh, kw)
    return prod(index.shape(node.input[0])) * prod(weight[1:])


def _gemm(node: onnx.NodeProto, index: GraphIndex) -> int:
    a = index.shape(node.input[0])
    inner = a[0] if attributes(node).get("transA", 0) else a[1]
    return prod(index.shape(node.output[0])) * inner


def _matmul(node: onnx.NodeProto, index: GraphIndex) -> int:
    return prod(index.shape(node.output[0])) * index.shape(node.input[0])[-1]


_COUNT = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}
# What may stand between a stored weight and the layer that multiplies with it.
_WEIGHT_PATH = (DQ_OP, "QuantizeLinear", "Transpose", "Identity", "Reshape", "Cast", "Unsqueeze")


def _is_constant(tensor: str, index: GraphIndex) -> bool:
    while index.op(tensor) in _WEIGHT_PATH:
        tensor = index.producer[tensor].input[0]
    return tensor in index.initializer or index.op(tensor) == "Constant"


def _is_dequantised(tensor: str, index: GraphIndex) -> bool:
    while index.op(tensor) in ("Transpose", "Identity", "Reshape", "Unsqueeze", "Cast"):
        tensor = index.producer[tensor].input[0]
    return index.op(tensor) == DQ_OP
