"""What belongs together in a Q/DQ graph: Q with DQ, a layer with its activation or bias."""

from __future__ import annotations

import onnx

from engines.graph_index import DQ_OP, Q_OP, GraphIndex

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def is_pair(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether a DQ belongs to a symmetric per-tensor Q with the same step."""
    quantiser = index.producer.get(node.input[0])
    if node.op_type != DQ_OP or quantiser is None or quantiser.op_type != Q_OP:
        return False
    step = index.activation_scale(quantiser)
    return step is not None and step == index.activation_scale(node)


def has_integer_inputs(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether a node multiplies a dequantised activation with dequantised constant weights."""
    return (
        node.op_type in WEIGHTED
        and index.constant_int8(node.input[1]) is not None
        and index.op(node.input[0]) == DQ_OP
    )


def waits_for_reader(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether the node is made together with its only reader, an activation or a bias."""
    if len(node.output) != 1 or not index.sole_reader(node.output[0]):
        return False
    reader = index.consumers[node.output[0]][0]
    if node.op_type == "MatMul" and reader.op_type == "Add":
        constants = [v for i in reader.input if (v := index.array(i)) is not None]
        return has_integer_inputs(node, index) and any(v.ndim == 1 for v in constants)
    return node.op_type in (*WEIGHTED, "Add") and reader.op_type in ("Relu", "Clip")


def unit_of(
    node: onnx.NodeProto, index: GraphIndex
) -> tuple[onnx.NodeProto, onnx.NodeProto | None]:
    """(node that computes, the activation behind it or None)."""
    if node.op_type in ("Relu", "Clip") and node.input[0] in index.producer:
        base = index.producer[node.input[0]]
        if waits_for_reader(base, index):
            return base, node
    return node, None
