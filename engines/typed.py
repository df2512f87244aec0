"""Strong typing: which nodes compute in FP16 and which in FP32, with the casts between them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.qdq import live_nodes
from trt_lane.errors import TrtLaneError
from trt_lane.scales import SMALLEST_STEP

# Half of FP16's largest number: room for frames beyond the calibration set.
FP16_LIMIT = 65504 / 2
FP16_NORMAL = 2.0**-14
# They square or exponentiate what they read, so the range of their output says nothing.
_WIDE_RANGE_OPS = {
    *("LayerNormalization", "InstanceNormalization", "GroupNormalization"),
    *("Exp", "Log", "Pow", "ReduceSum", "ReduceMean", "ReduceL2", "ReduceSumSquare", "Sqrt"),
    *("Reciprocal", "CumSum"),
}
# Their float inputs past the first are not data (sizes, ratios) or must stay FP32 by the standard.
_FLOAT_PARAMETERS = {"Resize": (1, 2)}
# Their result has the type of the first input whatever the others are.
_FIRST_INPUT_OPS = {
    *("Gather", "GatherElements", "GatherND", "Slice", "Expand", "Tile"),
    *("Reshape", "Unsqueeze", "Squeeze", "Pad", "Split"),
}
_NEVER_FLOAT = {
    *("Shape", "Size", "NonZero", "ArgMax", "ArgMin", "Equal", "Less", "LessOrEqual", "Greater"),
    *("GreaterOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"),
}
_VIEWS = {"Reshape", "Transpose", "Flatten", "Unsqueeze", "Squeeze"}
_PASSING_ON = _VIEWS | {"QuantizeLinear", "DequantizeLinear"}
_FP32, _FP16 = TensorProto.FLOAT, TensorProto.FLOAT16


def to_float_type(
    model: onnx.ModelProto, float_type: str, maxima: dict[str, float]
) -> onnx.ModelProto:
    """The model with every float tensor in the given type; FP32 inputs and outputs stay FP32.

    Args:
        model: all in FP32.
        float_type: "fp32" (nothing changes) or "fp16".
        maxima: largest magnitude seen by tensor name: what comes near FP16's limit stays FP32.

    Returns:
        The typed model; `metadata_props["fp32_nodes"]` names what was kept in FP32 and why.
    """
    if float_type == "fp32":
        return model
    if float_type != "fp16":
        raise TrtLaneError(f"float type {float_type!r} is unknown; expected fp16 or fp32")
    kept = fp32_nodes(model, maxima)
    _Typer(model, kept).run()
    entry = model.metadata_props.add()
    entry.key = "fp32_nodes"
    entry.value = "; ".join(f"{name}: {reason}" for name, reason in kept.items())
    return model


def fp32_nodes(model: onnx.ModelProto, maxima: dict[str, float]) -> dict[str, str]:
    """Names of the nodes that must not run in FP16, with the reason."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    makers = {o: n for n in model.graph.node for o in n.output}
    maxima = _passed_on(model.graph, maxima)
    kept = {name: "head: its numbers are read by the decoder" for name in _head_tails(model.graph)}
    kept |= {name: "makes a resize's ratio" for name in _parameter_makers(model.graph, makers)}
    for node in model.graph.node:
        reason = _reason(node, constants, makers, maxima)
        if not reason and node.op_type == "Div":
            divisor = _maker_of(node.input[1], makers)
            if divisor is not None and divisor.name in kept:
                reason = f"divides by what {divisor.name} keeps from being 0 in FP16"
        if reason:
            kept[node.name] = reason
    _keep_what_sums_up(model.graph, kept, maxima)
    return kept


def _parameter_makers(graph: onnx.GraphProto, makers: dict[str, onnx.NodeProto]) -> dict[str, None]:
    """Nodes that compute float parameters which the standard wants in FP32, in any order."""
    queue = [
        name
        for node in graph.node
        for i, name in enumerate(node.input)
        if i in _FLOAT_PARAMETERS.get(node.op_type, ())
    ]
    found: dict[str, None] = {}
    while queue:
        node = makers.get(queue.pop())
        if (
            node is not None
            and node.op_type not in ("Constant", "Shape")
            and node.name not in found
        ):
            found[node.name] = None
            queue += node.input
    return found


def _maker_of(name: str, makers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The node behind a tensor, seen through views."""
    maker = makers.get(name)
    while maker is not None and maker.op_type in _VIEWS | {"Expand"}:
        maker = makers.get(maker.input[0])
    return maker


def _passed_on(graph: onnx.GraphProto, maxima: dict[str, float]) -> dict[str, float]:
    """The maxima with those of tensors that Q/DQ and views make of the known ones."""
    known = dict(maxima)
    for node in graph.node:
        if node.op_type in _PASSING_ON and node.input[0] in known:
            known.setdefault(node.output[0], known[node.input[0]])
    return known


def _keep_what_sums_up(
    graph: onnx.GraphProto, kept: dict[str, str], maxima: dict[str, float]
) -> None:
    """A tensor of unknown range that becomes one near the limit may pass it: MatMul before bias."""
    growing = {n.output[0] for n in graph.node if maxima.get(n.output[0], 0.0) > FP16_LIMIT}
    for node in reversed(graph.node):
        if growing.isdisjoint(node.output) or node.op_type in _PASSING_ON:
            continue
        kept.setdefault(node.name, f"makes {node.output[0]}, which comes near FP16's limit")
        growing.update(n for n in node.input if n and n not in maxima)


def _head_tails(graph: onnx.GraphProto) -> list[str]:
    """Nodes from the last weighted layer of every head on.

    Heads hold numbers of very different size (LSTR's curve parameters: 300-fold), which FP16 would
    round as coarsely as INT8; the layer itself still multiplies INT8.
    """
    makers = {o: n for n in graph.node for o in n.output}
    queue = [output.name for output in graph.output]
    tail: list[str] = []
    while queue:
        node = makers.get(queue.pop())
        if node is None or node.name in tail:
            continue
        if node.op_type in ("Constant", "Shape"):
            continue
        tail.append(node.name)
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            queue += list(node.input)
    return tail


def _reason(
    node: onnx.NodeProto,
    constants: dict[str, np.ndarray],
    makers: dict[str, onnx.NodeProto],
    maxima: dict[str, float],
) -> str:
    if node.op_type in _WIDE_RANGE_OPS:
        return f"{node.op_type} leaves FP16's range inside"
    for name in (*node.output, *node.input):
        if maxima.get(name, 0.0) > FP16_LIMIT:
            return f"|{name}| reaches {maxima[name]:.3g}"
    for name in node.input:
        value = constants.get(name)
        if value is not None and value.dtype == np.float32 and value.size:
            if np.abs(value).max() > FP16_LIMIT:
                return f"constant {name} reaches {np.abs(value).max():.3g}"
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                if value.min() < SMALLEST_STEP:
                    return f"step {name} is {value.min():.3g}, too small for FP16"
            elif value.size == 1 and 0 < abs(float(value.reshape(()))) < FP16_NORMAL:
                return f"constant {name} is {float(value.reshape(())):.3g}: 0 or coarse in FP16"
        maker = makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            step = constants.get(maker.input[1])
            if step is not None and step.min() < SMALLEST_STEP:
                return f"step {maker.input[1]} is {step.min():.3g}, too small for FP16"
    return ""


class _Typer:
    """One walk over the graph that gives every node its type and puts casts where types meet."""

    def __init__(self, model: onnx.ModelProto, kept: dict[str, str]) -> None:
        self.graph = model.graph
        self.kept = kept
        self.constants = {i.name: i for i in self.graph.initializer}
        self.types: dict[str, int] = {}  # float tensor -> its type
        self.nodes: list[onnx.NodeProto] = []
        self.copies: dict[tuple[str, int], str] = {}
        self.makers: dict[str, onnx.NodeProto] = {}  # of the typed nodes
        steps = [n for n in self.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
        self.original_scale = {n.name: n.input[1] for n in steps}
        self.original_data = {n.name: n.input[0] for n in steps}

    def run(self) -> None:
        outputs = {o.name for o in self.graph.output}
        for value in self.graph.input:
            if value.type.tensor_type.elem_type == _FP32:
                self.types[value.name] = _FP32
        for node in self.graph.node:
            wanted = _FP32 if node.name in self.kept else _FP16
            self._type_node(node, wanted, outputs)
        del self.graph.node[:]
        self.graph.node.extend(live_nodes(self.nodes, outputs))
        used = {name for node in self.graph.node for name in node.input}
        kept = [i for i in self.graph.initializer if i.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _type_node(self, node: onnx.NodeProto, wanted: int, outputs: set[str]) -> None:
        if node.op_type == "Constant":
            self._type_constant(node, wanted)
            return
        if node.op_type == "Cast":
            self._type_cast(node, _FP32 if node.output[0] in outputs else wanted)
            return
        if node.op_type == "ConstantOfShape":
            self._type_filled(node)
            return
        parameters = _FLOAT_PARAMETERS.get(node.op_type, ())
        for i, name in enumerate(node.input):
            if self._is_float(name):
                node.input[i] = self._as(name, _FP32 if i in parameters else wanted)
        results = [] if node.op_type == "QuantizeLinear" else self._float_outputs(node)
        self.nodes.append(node)
        self.makers.update({output: node for output in node.output})
        for i in results:
            name = node.output[i]
            if name in outputs and wanted == _FP16:
                node.output[i] = f"{name}_fp16"
                self.types[node.output[i]] = _FP16
                self._cast(node.output[i], name, _FP32)
                for consumer in self.graph.node:  # a head that another node reads as well
                    for j, used in enumerate(consumer.input):
                        if used == name:
                            consumer.input[j] = node.output[i]
            self.types[name] = _FP32 if name in outputs else wanted

    def _float_outputs(self, node: onnx.NodeProto) -> list[int]:
        """Positions of a node's outputs that have the type it computes in."""
        if node.op_type in _NEVER_FLOAT:
            return []
        if node.op_type == "TopK":
            return [0]
        if node.op_type == "DequantizeLinear":
            return [0]
        data = [n for n in node.input if n]
        if node.op_type == "Where":
            data = list(node.input[1:])
        elif node.op_type in _FIRST_INPUT_OPS:
            data = [node.input[0]]
        return list(range(len(node.output))) if any(self._is_float(n) for n in data) else []

    def _type_constant(self, node: onnx.NodeProto, wanted: int) -> None:
        """Float Constant nodes become initialisers, so that each user gets its type."""
        del wanted
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is not None and value.data_type == _FP32:
            value.name = node.output[0]
            self.graph.initializer.append(value)
            self.constants[value.name] = value
        else:
            self.nodes.append(node)

    def _type_cast(self, node: onnx.NodeProto, wanted: int) -> None:
        to = next(a for a in node.attribute if a.name == "to")
        if to.i in (_FP32, _FP16):
            to.i = wanted
            self.types[node.output[0]] = wanted
        self.nodes.append(node)

    def _type_filled(self, node: onnx.NodeProto) -> None:
        """ConstantOfShape gives the type of its value, FP32 if it has none, whatever we want."""
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is None or value.data_type == _FP32:
            self.types[node.output[0]] = _FP32
        self.nodes.append(node)

    def _is_float(self, name: str) -> bool:
        if name in self.types:
            return True
        constant = self.constants.get(name)
        return constant is not None and constant.data_type in (_FP32, _FP16)

    def _as(self, name: str, wanted: int) -> str:
        """The tensor in the wanted type: itself, a typed copy of a constant, or a cast."""
        current = self.types.get(name)
        if current == wanted:
            return name
        if current is None and wanted == _FP32:
            return name
        key = (name, wanted)
        if key not in self.copies:
            suffix = "fp16" if wanted == _FP16 else "fp32"
            copied = f"{name}_{suffix}"
            if current is None:
                value = numpy_helper.to_array(self.constants[name]).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(value, copied))
                self.types[copied] = _FP16
            elif not (wanted == _FP32 and self._copy_dequantized(name, copied)):
                self._cast(name, copied, wanted)
            self.copies[key] = copied
        return self.copies[key]

    def _copy_dequantized(self, name: str, copied: str) -> bool:
        """Make an FP32 twin of a Q/DQ pair, and of the views behind it, for an FP32 layer.

        A cast between DQ and its layer would break the pattern that the builder looks for, and the
        layer would run in float.
        """
        maker = self.makers.get(name)
        if maker is None or not self._leads_to_dequantize(maker):
            return False
        twin = onnx.NodeProto()
        twin.CopyFrom(maker)
        twin.name, twin.output[0] = f"{maker.name}_fp32", copied
        if maker.op_type == "DequantizeLinear":
            twin.input[1] = self.original_scale[maker.name]
            quantizer = self.makers.get(maker.input[0])
            if quantizer is not None:
                first = onnx.NodeProto()
                first.CopyFrom(quantizer)
                first.name, first.output[0] = (
                    f"{quantizer.name}_fp32",
                    f"{quantizer.output[0]}_fp32",
                )
                first.input[0] = self._as(self.original_data[quantizer.name], _FP32)
                first.input[1] = twin.input[1]
                twin.input[0] = first.output[0]
                if not any(n.name == first.name for n in self.nodes):
                    self.nodes.append(first)
        else:
            twin.input[0] = self._as(maker.input[0], _FP32)
        self.nodes.append(twin)
        self.types[copied] = _FP32
        return True

    def _leads_to_dequantize(self, maker: onnx.NodeProto | None) -> bool:
        while maker is not None and maker.op_type in _VIEWS:
            maker = self.makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"

    def _cast(self, source: str, target: str, to: int) -> None:
        self.nodes.append(
            helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=to)
        )
        self.types[target] = to
