"""KernelWriter: writes ONNX Runtime's integer kernels into a growing graph.

All activations are uint8: the AVX512-VNNI and NEON paths of ONNX Runtime's convolutions take uint8
activations with int8 weights. A symmetric int8 level l is the uint8 level l + zero with zero 128,
or with zero 0 where a tensor cannot be negative: there the lower clip is the ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.graph_index import ConstantInt8

MS_DOMAIN = "com.microsoft"
# Accumulators hold the bias in int32; half the range is left to the products.
_BIAS_LIMIT = 1 << 30


@dataclass(frozen=True)
class Levels:
    """A uint8 tensor that stands for (level - zero) * scale."""

    name: str
    scale: float
    zero: int


@dataclass
class KernelWriter:
    """Nodes and constants of the graph being written; names are unique."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant; an equal one of the same name is shared."""
        tensor = numpy_helper.from_array(np.asarray(value), name)
        while name in self.constants and self.constants[name] != tensor:
            name += "_"
            tensor.name = name
        self.constants[name] = tensor
        return name

    def node(
        self, op: str, inputs: list[str], output: str, source: str, domain: str = "", **attributes
    ) -> str:
        """Add a node that carries out (part of) the node `source` of the Q/DQ graph."""
        while output in self._names:
            output += "_"
        self._names.add(output)
        name = f"{source}|{op}|{output}"
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=name, domain=domain, **attributes)
        )
        return output

    def copy(self, node: onnx.NodeProto, inputs: list[str], source: str) -> None:
        """Add a float node as it is, with other input names."""
        self._names.update(node.output)
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.name = f"{source}|{node.op_type}|{node.output[0]}"
        del copied.input[:]
        copied.input.extend(inputs)
        self.nodes.append(copied)

    def quantise(self, x: str, scale: float, zero: int, source: str) -> Levels:
        """Float to uint8."""
        y = self.node("QuantizeLinear", [x, *self._scale_zero(scale, zero)], f"{x}_u8", source)
        return Levels(y, scale, zero)

    def dequantise(self, x: Levels, output: str, source: str) -> str:
        """uint8 to float."""
        inputs = [x.name, *self._scale_zero(x.scale, x.zero)]
        return self.node("DequantizeLinear", inputs, output, source)

    def clip(self, x: Levels, low: int, high: int, source: str) -> Levels:
        """Saturate levels to [low, high]; nothing to do for [0, 255]."""
        if low <= 0 and high >= 255:
            return x
        bounds = [self.constant(f"u8_{v}", np.uint8(v)) for v in (max(low, 0), min(high, 255))]
        return Levels(
            self.node("Clip", [x.name, *bounds], f"{x.name}_clip", source), x.scale, x.zero
        )

    def convolution(
        self, x: Levels, weight: ConstantInt8, bias: np.ndarray | None, out: Levels, source: str,
        **attributes,
    ) -> Levels:  # fmt: skip
        """QLinearConv with output name, scale and zero of `out`."""
        weights, steps, levels = _fit_bias(weight, 0, bias, x.scale)
        stem = out.name
        inputs = [
            x.name,
            *self._scale_zero(x.scale, x.zero),
            self.constant(f"{stem}_weight", weights),
            self.constant(f"{stem}_steps", steps),
            self.constant(f"{stem}_zeros", np.zeros(len(steps), np.int8)),
            *self._scale_zero(out.scale, out.zero),
        ]
        if levels is not None:
            inputs.append(self.constant(f"{stem}_bias", levels))
        y = self.node("QLinearConv", inputs, stem, source, **attributes)
        return Levels(y, out.scale, out.zero)

    def gemm(
        self,
        x: Levels,
        weight: ConstantInt8,
        bias: np.ndarray | None,
        out: Levels | str,
        source: str,
    ) -> Levels | str:
        """QGemm of x (M, K) with weight (K, N); float result when `out` is only a name."""
        weights, steps, levels = _fit_bias(weight, 1, bias, x.scale)
        stem = out if isinstance(out, str) else out.name
        inputs = [
            x.name,
            *self._scale_zero(x.scale, x.zero),
            self.constant(f"{stem}_weight", weights),
            self.constant(f"{stem}_steps", steps),
            self.constant(f"{stem}_zeros", np.zeros(len(steps), np.int8)),
            "" if levels is None else self.constant(f"{stem}_bias", levels),
        ]
        if isinstance(out, Levels):
            inputs += self._scale_zero(out.scale, out.zero)
        y = self.node("QGemm", inputs, stem, source, MS_DOMAIN)
        return Levels(y, out.scale, out.zero) if isinstance(out, Levels) else y

    def matmul(
        self, x: Levels, weight: ConstantInt8, bias: np.ndarray | None, output: str, source: str
    ) -> str:
        """MatMulIntegerToFloat of x (..., K) with weight (K, N) and a float bias (N,)."""
        steps = _per_channel(weight, 1)
        scale, zero = self._scale_zero(x.scale, x.zero)
        inputs = [
            x.name,
            self.constant(f"{output}_weight", np.ascontiguousarray(weight.levels)),
            scale,
            self.constant(f"{output}_steps", steps),
            zero,
            self.constant(f"{output}_zeros", np.zeros(len(steps), np.int8)),
        ]
        if bias is not None:
            inputs.append(self.constant(f"{output}_bias", bias.astype(np.float32)))
        return self.node("MatMulIntegerToFloat", inputs, output, source, MS_DOMAIN)

    def add(self, a: Levels, b: Levels, out: Levels, source: str) -> Levels:
        """QLinearAdd."""
        inputs = [v for x in (a, b) for v in (x.name, *self._scale_zero(x.scale, x.zero))]
        inputs += self._scale_zero(out.scale, out.zero)
        y = self.node("QLinearAdd", inputs, out.name, source, MS_DOMAIN)
        return Levels(y, out.scale, out.zero)

    def _scale_zero(self, scale: float, zero: int) -> list[str]:
        value = np.float32(scale)
        return [
            self.constant(f"step_{value.view(np.uint32):08x}", value),
            self.constant(f"u8_{zero}", np.uint8(zero)),
        ]


def _per_channel(weight: ConstantInt8, axis: int) -> np.ndarray:
    count = weight.levels.shape[axis]
    return np.ascontiguousarray(np.broadcast_to(weight.scale.astype(np.float32), (count,)))


def _fit_bias(
    weight: ConstantInt8, axis: int, bias: np.ndarray | None, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Levels, steps per channel along `axis`, and the bias in units of the accumulator, int32.

    A channel that calibration found dead has a step near zero, and its bias would overflow: such a
    channel gets the smallest step at which the bias fits. Its weights, rounded anew, change the
    result by less than inputs * 127 / 2**31 of the bias.
    """
    steps = _per_channel(weight, axis)
    levels = weight.levels
    if bias is None:
        return np.ascontiguousarray(levels), steps, None
    bias = np.broadcast_to(bias.reshape(-1), steps.shape).astype(np.float64)
    smallest = np.abs(bias) / (_BIAS_LIMIT * np.float64(scale))
    grown = np.maximum(steps, smallest).astype(np.float32)
    if (grown > steps).any():
        shape = [-1 if i == axis else 1 for i in range(levels.ndim)]
        ratio = (steps.astype(np.float64) / np.maximum(grown, 1e-45)).reshape(shape)
        levels = np.rint(levels * ratio).astype(np.int8)
    units = np.rint(bias / (np.float64(scale) * np.maximum(grown.astype(np.float64), 1e-300)))
    return np.ascontiguousarray(levels), grown, units.astype(np.int32)
