"""Checks an explicit Q/DQ ONNX against TensorRT's rules, with a reason for every finding.

The builder accepts some wrong graphs silently and others cost speed without a word; each rule here
names which (TensorRT developer guide, "Working with Quantized Types").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from engines.graph_index import GraphIndex
from trt_lane.errors import TrtLaneError
from trt_lane.scales import SMALLEST_STEP

_WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 0}
_VIEWS = {"Reshape", "Transpose", "Flatten", "Unsqueeze", "Squeeze", "Slice", "Split", "MaxPool"}


@dataclass(frozen=True)
class Finding:
    """One breach of a rule.

    Attributes:
        rule: short stable name.
        node: the node it was found at.
        message: what is wrong and why it matters.
    """

    rule: str
    node: str
    message: str


class Graph(GraphIndex):
    """The look-ups that rules need."""

    def of_type(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """Nodes of those types, in order."""
        return (n for n in self.nodes if n.op_type in kinds)

    def is_weight(self, dequantize: onnx.NodeProto) -> bool:
        """Whether a DequantizeLinear unpacks a constant, int8 or float behind QuantizeLinear."""
        return self.levels(dequantize) is not None

    def levels(self, dequantize: onnx.NodeProto) -> np.ndarray | None:
        """What a DequantizeLinear unpacks: int8, or the float constant that was quantised."""
        maker = self.producer.get(dequantize.input[0])
        if maker is not None and maker.op_type == "QuantizeLinear":
            return self.array(maker.input[0])
        return self.array(dequantize.input[0])

    def is_constant(self, name: str) -> bool:
        """Whether a tensor depends on no input, seen through views."""
        maker = self.producer.get(name)
        while maker is not None and maker.op_type in _VIEWS | {"Cast"}:
            name = maker.input[0]
            maker = self.producer.get(name)
        return self.array(name) is not None

    @cached_property
    def types(self) -> dict[str, int]:
        """Element type of every tensor for which ONNX can tell it."""
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        known = {k: v.data_type for k, v in self.initializer.items()}
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        return known | {v.name: v.type.tensor_type.elem_type for v in values}

    def dequantized(self, name: str, kinds: set[str] = _VIEWS) -> onnx.NodeProto | None:
        """The DequantizeLinear behind a tensor, looking through views and casts, or None."""
        maker = self.producer.get(name)
        while maker is not None and maker.op_type in kinds | {"Cast"}:
            maker = self.producer.get(maker.input[0])
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def scale(self, node: onnx.NodeProto) -> np.ndarray | None:
        """The step of a Q or DQ node."""
        return self.array(node.input[1])


def lint(model: onnx.ModelProto) -> list[Finding]:
    """Every breach of a rule, in graph order per rule; an empty list is a clean graph."""
    graph = Graph(model)
    return [finding for rule in RULES for finding in rule(graph)]


def lint_file(path: Path) -> list[Finding]:
    """Lint a file; one that is no ONNX model is a TrtLaneError."""
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except FileNotFoundError:
        raise TrtLaneError(f"no ONNX file {path}") from None
    except Exception as error:  # protobuf and onnx raise several unrelated types
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrtLaneError(f"{path} is not a valid ONNX model: {first}") from None
    return lint(model)


def _scales_are_sound(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        scale = graph.scale(node)
        if scale is None:
            yield Finding(
                "scale-constant", node.name, "scale is computed; TensorRT wants a constant"
            )
        elif not (scale.size and np.isfinite(scale.astype(np.float64)).all() and (scale > 0).all()):
            numbers = f"{scale.min()}..{scale.max()}" if scale.size else "empty"
            yield Finding(
                "scale-positive",
                node.name,
                f"scale is {numbers}; expected positive and finite numbers",
            )


def _zero_points_are_zero(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        if len(node.input) < 3 or not node.input[2]:
            if node.op_type == "QuantizeLinear":
                yield Finding(
                    "zero-point",
                    node.name,
                    "no zero point: ONNX then means uint8; TensorRT's INT8 wants int8 zeros",
                )
            levels = graph.array(node.input[0])
            if levels is not None and levels.dtype != np.int8:
                yield Finding(
                    "zero-point", node.name, f"levels are {levels.dtype}; TensorRT's INT8 is int8"
                )
            continue
        zero = graph.array(node.input[2])
        if zero is None or zero.dtype != np.int8 or zero.any():
            kind = "computed" if zero is None else f"{zero.dtype} {np.unique(zero)[:3]}"
            yield Finding(
                "zero-point", node.name, f"zero point is {kind}; TensorRT's INT8 is symmetric"
            )


def _activations_are_per_tensor(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        if node.op_type == "DequantizeLinear" and graph.is_weight(node):
            continue
        if graph.array(node.input[0]) is not None:
            continue
        scale = graph.scale(node)
        if scale is not None and scale.shape == (1,):
            yield Finding(
                "activation-per-tensor",
                node.name,
                "scale has shape (1,), which the builder reads as one scale per channel: it fuses "
                "nothing and runs the layer in float; make the scale a scalar",
            )
        elif scale is not None and scale.size != 1:
            yield Finding(
                "activation-per-tensor",
                node.name,
                f"activation has {scale.size} scales; the builder takes them and computes "
                "something else: activations need one scale per tensor",
            )


def _weights_have_the_right_axis(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type(*_WEIGHT_AXIS):
        name, transposed = node.input[1], False
        maker = graph.producer.get(name)
        while maker is not None and maker.op_type in ("Transpose", "Cast", "Reshape"):
            transposed ^= maker.op_type == "Transpose"
            maker = graph.producer.get(maker.input[0])
        if maker is None or maker.op_type != "DequantizeLinear" or not graph.is_weight(maker):
            continue
        scale, levels = graph.scale(maker), graph.levels(maker)
        if scale is None or scale.size == 1:
            continue
        axis = next((a.i for a in maker.attribute if a.name == "axis"), 1) % levels.ndim
        if node.op_type == "Gemm":
            transposed ^= bool(next((a.i for a in node.attribute if a.name == "transB"), 0))
            expected = 0 if transposed else 1
        elif node.op_type == "MatMul":
            expected = levels.ndim - (2 if transposed else 1)
        else:
            expected = _WEIGHT_AXIS[node.op_type]
        if axis != expected:
            yield Finding(
                "weight-axis",
                maker.name,
                f"weight of {node.op_type} {node.name} has its scales on axis {axis}; expected "
                f"{expected} (output channels): the builder takes it and the results are wrong",
            )
        elif scale.size != levels.shape[axis]:
            yield Finding(
                "weight-axis",
                maker.name,
                f"{scale.size} scales for {levels.shape[axis]} output channels",
            )


def _weighted_layers_are_whole(graph: Graph) -> Iterator[Finding]:
    """A layer with an INT8 weight and a float input (or the reverse) runs in float, slower."""
    for node in graph.of_type("Conv", "ConvTranspose", "Gemm", "MatMul"):
        data = graph.dequantized(node.input[0])
        weight = graph.dequantized(node.input[1], {"Transpose", "Reshape"})
        if weight is not None and not graph.is_weight(weight):
            weight = None
        if (data is None) != (weight is None) and (
            weight is not None or graph.is_constant(node.input[1])
        ):
            missing = "input" if data is None else "weight"
            yield Finding(
                "layer-half-quantised",
                node.name,
                f"its {missing} has no Q/DQ: the layer runs in float and the other Q/DQ only costs",
            )


def _bias_is_float(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type("Conv", "ConvTranspose", "Gemm"):
        if len(node.input) > 2 and graph.dequantized(node.input[2], set()) is not None:
            yield Finding("bias-float", node.name, "bias is quantised; TensorRT wants it in float")


def _residual_identity_is_quantised(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type("Add"):
        branches = [_fusible_convolution(graph, name) for name in node.input]
        if not any(branches) or any(graph.is_constant(name) for name in node.input):
            continue
        shapes = [graph.shapes.get(name) for name in node.input]
        if None not in shapes and shapes[0] != shapes[1]:
            continue  # a broadcast: the builder fuses only sums of equal shapes
        if all(graph.dequantized(n) is None for n in node.input):
            yield Finding(
                "residual-identity",
                node.name,
                "no operand of this residual add has Q/DQ: the add cannot fuse with its "
                "convolution and runs on its own in float; put Q/DQ on the identity operand",
            )
    for node in graph.of_type("Add"):
        operands = [graph.producer.get(n) for n in node.input]
        if all(o is not None and o.op_type == "DequantizeLinear" for o in operands):
            quantizers = [graph.producer.get(o.input[0]) for o in operands]
            if any(q is not None and _fusible_convolution(graph, q.input[0]) for q in quantizers):
                yield Finding(
                    "residual-identity",
                    node.name,
                    "both operands have Q/DQ: leave the convolution's output in float so that "
                    "convolution, add and ReLU fuse",
                )


def _fusible_convolution(graph: Graph, name: str) -> bool:
    maker = graph.producer.get(name)
    return (
        maker is not None
        and maker.op_type in ("Conv", "ConvTranspose")
        and graph.dequantized(maker.input[0]) is not None
        and graph.sole_reader(name)
    )


def _concat_scales_are_equal(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type("Concat"):
        dequantizers = [graph.dequantized(name) for name in node.input]
        activations = [d for d in dequantizers if d is not None and not graph.is_weight(d)]
        steps = [graph.scale(d) for d in activations]
        scales = {float(s.ravel()[0]) for s in steps if s is not None and s.size}
        if not scales:
            continue
        if len(scales) > 1:
            yield Finding(
                "concat-scales",
                node.name,
                f"operands have {len(scales)} different scales ({min(scales):.4g} to "
                f"{max(scales):.4g}): the concat runs in float; give them one scale",
            )
        elif len(activations) < len(node.input):
            bare = [n for n, d in zip(node.input, dequantizers, strict=True) if d is None]
            yield Finding(
                "concat-scales",
                node.name,
                f"operands {bare} have no Q/DQ while the others have: the concat runs in float",
            )


def _one_scale_per_tensor(graph: Graph) -> Iterator[Finding]:
    for name, users in graph.consumers.items():
        quantizers = [u for u in users if u.op_type == "QuantizeLinear" and u.input[0] == name]
        steps = [graph.scale(q) for q in quantizers]
        scales = {s.astype(np.float64).tobytes() for s in steps if s is not None}
        if len(scales) > 1:
            yield Finding(
                "one-scale",
                quantizers[0].name,
                f"tensor {name} is quantised with {len(scales)} different scales; every consumer "
                "needs the same, or the tensor is written once per scale",
            )


def _pairs_match(graph: Graph) -> Iterator[Finding]:
    for node in graph.of_type("QuantizeLinear"):
        for user in graph.consumers.get(node.output[0], []):
            if user.op_type != "DequantizeLinear":
                continue
            first, second = graph.scale(node), graph.scale(user)
            if first is None or second is None:
                continue
            if not np.array_equal(first.ravel(), second.ravel(), equal_nan=True):
                yield Finding(
                    "pair-scales", user.name, f"its scale differs from that of {node.name}"
                )


def _types_match(graph: Graph) -> Iterator[Finding]:
    """FP16 networks: a step that FP16 holds with fewer than 5 bits has lost its value."""
    for node in graph.of_type("QuantizeLinear"):
        pair = [graph.types.get(name) for name in node.input[:2]]
        if None not in pair and pair[0] != pair[1]:
            names = [TensorProto.DataType.Name(kind) for kind in pair]
            yield Finding(
                "scale-type",
                node.name,
                f"input is {names[0]} and scale {names[1]}; TensorRT wants one type for both",
            )
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        proto = graph.initializer.get(node.input[1])
        if proto is not None and proto.data_type == TensorProto.FLOAT16:
            smallest = float(numpy_helper.to_array(proto).min())
            if smallest < SMALLEST_STEP:
                yield Finding(
                    "fp16-scale",
                    node.name,
                    f"scale {smallest:.3g} is too small for FP16; keep this layer in FP32",
                )


RULES: tuple[Callable[[Graph], Iterator[Finding]], ...] = (
    _scales_are_sound,
    _zero_points_are_zero,
    _activations_are_per_tensor,
    _weights_have_the_right_axis,
    _weighted_layers_are_whole,
    _bias_is_float,
    _residual_identity_is_quantised,
    _concat_scales_are_equal,
    _one_scale_per_tensor,
    _pairs_match,
    _types_match,
)
