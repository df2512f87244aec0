"""Lower a TensorRT-style Q/DQ graph to ONNX Runtime's integer kernels.

TensorRT wants Q/DQ at the inputs of weighted layers only; ONNX Runtime has integer kernels only
between quantised inputs AND outputs, and simulates everything else in float, slower than the float
network. `lower` keeps every step of the Q/DQ graph and finds, for each tensor, the integer kernel
that makes it; the Q/DQ graph itself is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from engines.cpu_demand import clip_bounds, find_demands, is_move
from engines.cpu_kernels import MS_DOMAIN, KernelWriter, Levels
from engines.cpu_layers import LayerWriter
from engines.cpu_sampling import SamplingWriter
from engines.cpu_steps import StepChooser
from engines.cpu_units import WEIGHTED, has_integer_inputs, is_pair, unit_of, waits_for_reader
from engines.graph_index import DQ_OP, Q_OP, GraphIndex, attributes, node_name
from engines.macs import count_macs
from trt_lane.errors import TrtLaneError

# Layers whose rounded result would be read in float stay in float themselves while all of them
# together are at most this share of the work.
_FLOAT_BUDGET = 0.01


@dataclass(frozen=True)
class ExtraRounding:
    """A tensor that the Q/DQ graph reads in float and the CPU graph reads rounded to 8 bits.

    The error is uniform within ±step / 2, that is step / sqrt(12) RMS.
    """

    tensor: str
    step: float


@dataclass(frozen=True)
class CpuGraph:
    """What `lower` made.

    Attributes:
        model: ONNX with QLinearConv, QGemm, MatMulIntegerToFloat and QLinearAdd. Its node names are
            `<node of the Q/DQ graph>|<kernel>|<output>`.
        roundings: where 8-bit rounding was added that the Q/DQ graph does not have.
        in_float: weighted node with Q/DQ inputs -> why no integer kernel runs it.
    """

    model: onnx.ModelProto
    roundings: tuple[ExtraRounding, ...]
    in_float: dict[str, str]


def lower(model: onnx.ModelProto, maxima: Mapping[str, float] | None = None) -> CpuGraph:
    """Rewrite a float32 Q/DQ graph for ONNX Runtime on a CPU.

    Args:
        model: explicit symmetric INT8 Q/DQ around the inputs of weighted layers, float32.
        maxima: largest magnitude of float tensors by graph name (ScaleTable.maxima). Convolutions
            that end in an addition need it to run as integers; without it they stay in float.
    """
    if any(i.data_type == TensorProto.FLOAT16 for i in model.graph.initializer):
        raise TrtLaneError(
            "the graph computes in FP16; a CPU runs FP32 graphs: export it for the target cpu"
        )
    index = GraphIndex(model)
    first = _Lowering(index, dict(maxima or {}))
    graph = first.run()
    cheap = _cheapest(first.read_in_float, model)
    return _Lowering(index, dict(maxima or {}), cheap).run() if cheap else graph


def _cheapest(nodes: set[str], model: onnx.ModelProto) -> set[str]:
    """The smallest of the named layers, up to the float budget."""
    counted = count_macs(model)
    left = _FLOAT_BUDGET * sum(w.macs for w in counted)
    # Float convolutions are fast; transposed ones are not.
    work = {w.node: w.macs for w in counted if w.op == "Conv" and w.node in nodes}
    chosen = set()
    for name in sorted(work, key=lambda n: (work[n], n)):
        left -= work[name]
        if left < 0:
            break
        chosen.add(name)
    return chosen


class _Lowering:
    """One walk in graph order; each tensor gets an integer form, a float form, or both."""

    def __init__(
        self, index: GraphIndex, maxima: dict[str, float], keep_float: Set[str] = frozenset()
    ) -> None:
        self.index = index
        self.keep_float = keep_float
        self.origin: dict[str, str] = {}  # tensor with an integer form -> node that computed it
        self.read_in_float: set[str] = set()  # those nodes whose rounded result is read in float
        self.maxima = maxima
        self.demands = find_demands(index)
        self.writer = KernelWriter()
        self.layers = LayerWriter(index, self.writer)
        self.sampling = SamplingWriter(index, self.writer)
        self.steps = StepChooser(index, self.demands, maxima)
        self.levels: dict[str, Levels] = {}
        self.quantised: dict[tuple[str, float], Levels] = {}
        self.floats = {i.name: i.name for i in index.model.graph.input}
        self.roundings: dict[str, ExtraRounding] = {}
        self.in_float: dict[str, str] = {}

    def run(self) -> CpuGraph:
        for node in self.index.nodes:
            if self._is_constant(node):
                continue
            if not waits_for_reader(node, self.index):
                self._visit(node)
        source = self.index.model.graph
        for output in source.output:
            made = self._float(output.name)
            if made != output.name:
                self.writer.node("Identity", [made], output.name, "output")
        graph = helper.make_graph(
            self.writer.nodes,
            source.name,
            source.input,
            source.output,
            list(self.writer.constants.values()),
        )
        opsets = [*self.index.model.opset_import, helper.make_opsetid(MS_DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = min(self.index.model.ir_version, 10)
        return CpuGraph(model, tuple(self.roundings.values()), self.in_float)

    # -- one node -----------------------------------------------------------------------------

    def _visit(self, node: onnx.NodeProto) -> None:
        tensor = node.output[0]
        if node.op_type == Q_OP and self._is_read_by_dq_only(node):
            return
        if node.op_type == DQ_OP and is_pair(node, self.index):
            quantiser = self.index.producer[node.input[0]]
            scale = self.index.activation_scale(quantiser)
            self.levels[tensor] = self._at_step(quantiser.input[0], scale)
            return
        found = self._as_levels(node)
        if found is None:
            self._as_float(node)
        else:
            self.levels[tensor] = found

    def _as_levels(self, node: onnx.NodeProto) -> Levels | None:
        if is_move(node):
            return self._moved(node)
        if node.op_type == "Concat":
            return self._concatenated(node)
        base, activation = unit_of(node, self.index)
        if base.op_type not in (*WEIGHTED, "Add"):
            return None
        return self._computed(base, activation)

    def _as_float(self, node: onnx.NodeProto) -> None:
        base, activation = unit_of(node, self.index)
        tensor = base.output[0]
        made = self.layers.float_result(base, self.levels) if base.op_type in WEIGHTED else None
        if made is None and base.op_type == "Add":
            made = self._biased_matmul(base)
        if made is None:
            if has_integer_inputs(base, self.index):
                self.in_float[node_name(base)] = self._reason(base)
            if base.op_type in ("Shape", "Size") and base.input[0] in self.levels:
                inputs = [self.levels[base.input[0]].name]
            else:
                inputs = [self._float(i) if i else "" for i in base.input]
            made = self.sampling.result(base, inputs)
            if made is None:
                self.writer.copy(base, inputs, node_name(base))
        self.floats[tensor] = made or tensor
        if activation is not None:
            inputs = [self._float(i) if i else "" for i in activation.input]
            self.writer.copy(activation, inputs, node_name(activation))
            self.floats[activation.output[0]] = activation.output[0]
        for extra in base.output[1:]:
            self.floats[extra] = extra

    # -- integer forms ------------------------------------------------------------------------

    def _computed(self, base: onnx.NodeProto, activation: onnx.NodeProto | None) -> Levels | None:
        """Weighted layer or addition, with the activation behind it, as one integer kernel."""
        last = activation or base
        tensor = last.output[0]
        wanted = self.demands[tensor]
        low, high = (-np.inf, np.inf) if activation is None else clip_bounds(activation, self.index)
        if wanted.exact or np.isnan(low) or np.isnan(high):
            return None
        if node_name(base) in self.keep_float:
            return None
        step, zero, extra = self.steps.choose(tensor)
        if step is None:
            return None
        out = Levels(f"{tensor}_u8", step, zero)
        if base.op_type == "Add":
            found = self._added(base, out)
        else:
            found = self.layers.integer_result(base, self.levels, out)
        if found is None:
            return None
        if base.op_type in WEIGHTED:
            self.origin[tensor] = node_name(base)
        return self._saturated(found, tensor, low, high, extra)

    def _saturated(self, x: Levels, tensor: str, low: float, high: float, extra: bool) -> Levels:
        """Clip where uint8's own limits are not those of int8 and of the activation."""
        bottom = 0 if low == -np.inf else round(low / x.scale) + x.zero
        top = 255 if high == np.inf else round(min(high / x.scale, 255)) + x.zero
        if not extra and x.zero == 0 and not self.maxima.get(tensor, np.inf) < 127.5 * x.scale:
            top = min(top, 127)  # int8 ends there; calibration has seen larger values or is silent
        return self.writer.clip(x, bottom, top, tensor)

    def _added(self, node: onnx.NodeProto, out: Levels) -> Levels | None:
        a, b = node.input
        if a not in self.levels or b not in self.levels:
            return None
        if self.index.shapes.get(a, a) != self.index.shapes.get(b, b):
            return None
        for tensor in (a, b):
            self._note_rounding(tensor)
        return self.writer.add(self.levels[a], self.levels[b], out, node_name(node))

    def _moved(self, node: onnx.NodeProto) -> Levels | None:
        tensor, source = node.output[0], node.input[0]
        wanted = self.demands[tensor].steps
        inner = self.levels.get(source)
        if inner is None and node.op_type == "MaxPool" and len(wanted) == 1:
            inner = self._at_step(source, next(iter(wanted)))
        if inner is None:
            return None
        inputs = [inner.name, *(self._float(i) if i else "" for i in node.input[1:])]
        if source in self.origin:
            self.origin[tensor] = self.origin[source]
        y = self.writer.node(
            node.op_type, inputs, f"{tensor}_u8", node_name(node), **attributes(node)
        )
        return Levels(y, inner.scale, inner.zero)

    def _concatenated(self, node: onnx.NodeProto) -> Levels | None:
        wanted = self.demands[node.output[0]]
        if len(wanted.steps) != 1 or not any(i in self.levels for i in node.input):
            return None
        step = next(iter(wanted.steps))
        parts = [self._at_step(i, step, wanted.zero) for i in node.input]
        y = self.writer.node(
            "Concat",
            [p.name for p in parts],
            f"{node.output[0]}_u8",
            node_name(node),
            **attributes(node),
        )
        return Levels(y, step, wanted.zero)

    def _at_step(self, tensor: str, step: float, zero: int | None = None) -> Levels:
        """The tensor at that step: its integer form if it has it, else quantised from float."""
        zero = self.demands[tensor].zero if zero is None else zero
        found = self.levels.get(tensor)
        if found is not None and (found.scale, found.zero) == (step, zero):
            return found
        key = (tensor, step)
        if key not in self.quantised:
            made = self.writer.quantise(self._float(tensor), step, zero, tensor)
            self.quantised[key] = self._saturated(made, tensor, -np.inf, np.inf, False)
        return self.quantised[key]

    # -- float forms --------------------------------------------------------------------------

    def _float(self, tensor: str) -> str:
        """Name of the tensor's float form, made on demand."""
        if tensor in self.floats:
            return self.floats[tensor]
        constant = self.index.constant_int8(tensor)
        if tensor in self.levels:
            self._note_rounding(tensor)
            if tensor in self.origin:
                self.read_in_float.add(self.origin[tensor])
            self.floats[tensor] = self.writer.dequantise(self.levels[tensor], tensor, tensor)
        elif constant is not None:
            self.floats[tensor] = self.writer.constant(tensor, constant.real())
        else:
            value = self.index.array(tensor)
            if value is None:
                raise TrtLaneError(f"the graph reads {tensor!r} before anything makes it")
            self.floats[tensor] = self.writer.constant(tensor, value)
        return self.floats[tensor]

    def _biased_matmul(self, node: onnx.NodeProto) -> str | None:
        """MatMul and the constant bias behind it as one kernel."""
        for tensor, other in (node.input, tuple(node.input)[::-1]):
            bias = self.index.array(other)
            if bias is None or bias.ndim != 1 or self.index.op(tensor) != "MatMul":
                continue
            if waits_for_reader(self.index.producer[tensor], self.index):
                return self.layers.float_result(
                    self.index.producer[tensor], self.levels, bias, node.output[0]
                )
        return None

    # -- questions ----------------------------------------------------------------------------

    def _is_constant(self, node: onnx.NodeProto) -> bool:
        tensor = node.output[0]
        quantised_constant = node.op_type == Q_OP and self.index.array(node.input[0]) is not None
        return (
            quantised_constant
            or self.index.array(tensor) is not None
            or self.index.constant_int8(tensor) is not None
        )

    def _is_read_by_dq_only(self, node: onnx.NodeProto) -> bool:
        readers = self.index.consumers.get(node.output[0], [])
        return node.output[0] not in self.index.outputs and all(
            is_pair(r, self.index) for r in readers
        )

    def _reason(self, node: onnx.NodeProto) -> str:
        if node.op_type == "ConvTranspose":
            return "ONNX Runtime has no integer transposed convolution of this stride and kernel"
        if self.demands[node.output[0]].exact:
            return "its float result is read up to a network output or a float layer: not rounded"
        if node_name(node) in self.keep_float:
            return "small, and its result is read in float, so it is not rounded"
        return "no calibrated maximum of its result, so no step to round it to"

    def _note_rounding(self, tensor: str) -> None:
        """A float reader of the Q/DQ graph is about to read the tensor's integer form."""
        node = self.index.producer[tensor]
        if node.op_type != DQ_OP:
            self.roundings[tensor] = ExtraRounding(tensor, self.levels[tensor].scale)
