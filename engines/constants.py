"""Computes once what an exported graph would compute from constants at every inference."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

# Larger results are left to the builder: folding an Expand of ones would only swell the file.
_LARGEST = 1 << 16
_KEPT = {"QuantizeLinear", "DequantizeLinear"}


def fold_constants(model: onnx.ModelProto) -> None:
    """Replace nodes that read only Constant nodes by initialisers, in place.

    The exporter writes slice bounds, sizes and resize factors as chains of small nodes; TensorRT
    wants them constant, and FP16 typing must not touch them. Named weights are never folded, so
    that their Q/DQ stays.
    """
    graph = model.graph
    known: dict[str, np.ndarray] = {}
    shapes = _static_shapes(model)
    nodes = []
    for node in graph.node:
        values = _evaluate(node, known, shapes, model)
        if values is None:
            nodes.append(node)
        else:
            known.update(zip(node.output, values, strict=True))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in known.items() if name in used
    )


def _evaluate(
    node: onnx.NodeProto,
    known: dict[str, np.ndarray],
    shapes: dict[str, tuple[int, ...]],
    model: onnx.ModelProto,
) -> list[np.ndarray] | None:
    """Results of a node that depends on constants alone, else None."""
    if node.op_type == "Constant":
        return (
            [numpy_helper.to_array(node.attribute[0].t)]
            if node.attribute[0].HasField("t")
            else None
        )
    if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
        return [np.array(shapes[node.input[0]], np.int64)]
    names = [name for name in node.input if name]
    if not names or node.op_type in _KEPT or any(name not in known for name in names):
        return None
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_tensor_value_info(n, _type(known[n]), known[n].shape) for n in set(names)],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    single = helper.make_model(graph, opset_imports=list(model.opset_import))
    single.ir_version = model.ir_version
    results = ReferenceEvaluator(single).run(None, {n: known[n] for n in names})
    results = [np.asarray(value) for value in results]
    return None if any(value.size > _LARGEST for value in results) else results


def _type(value: np.ndarray) -> int:
    return helper.np_dtype_to_tensor_dtype(value.dtype)


def _static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes
