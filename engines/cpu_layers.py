"""LayerWriter: a convolution, Gemm or MatMul between Q/DQ as one integer kernel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from engines.cpu_kernels import KernelWriter, Levels
from engines.cpu_units import has_integer_inputs
from engines.graph_index import ConstantInt8, GraphIndex, attributes, node_name


class LayerWriter:
    """Chooses and writes the kernel of one weighted node."""

    def __init__(self, index: GraphIndex, writer: KernelWriter) -> None:
        self.index = index
        self.writer = writer

    def integer_result(
        self, node: onnx.NodeProto, levels: Mapping[str, Levels], out: Levels
    ) -> Levels | None:
        """Kernel with uint8 output, or None where ONNX Runtime has none."""
        operands = self._operands(node, levels)
        if operands is None:
            return None
        x, weight, bias = operands
        name, numbers = node_name(node), attributes(node)
        if node.op_type == "Conv" and weight.axis in (0, None):
            return self.writer.convolution(x, weight, bias, out, name, **numbers)
        if node.op_type == "ConvTranspose":
            return self._transposed(node, x, weight, bias, out)
        if node.op_type == "Gemm":
            weight = _gemm_weight(weight, numbers)
            return weight and self.writer.gemm(x, weight, bias, out, name)
        return None

    def float_result(
        self,
        node: onnx.NodeProto,
        levels: Mapping[str, Levels],
        bias: np.ndarray | None = None,
        output: str | None = None,
    ) -> str | None:
        """Kernel that multiplies integers and gives unrounded floats; None if there is none."""
        operands = self._operands(node, levels)
        if operands is None:
            return None
        x, weight, own_bias = operands
        name, output = node_name(node), output or node.output[0]
        if node.op_type == "Gemm":
            weight = _gemm_weight(weight, attributes(node))
            return weight and self.writer.gemm(x, weight, own_bias, output, name)
        if node.op_type == "MatMul" and weight.levels.ndim == 2 and weight.axis in (1, None):
            return self.writer.matmul(x, weight, bias, output, name)
        return None

    def _operands(
        self, node: onnx.NodeProto, levels: Mapping[str, Levels]
    ) -> tuple[Levels, ConstantInt8, np.ndarray | None] | None:
        if not has_integer_inputs(node, self.index) or node.input[0] not in levels:
            return None
        weight = self.index.constant_int8(node.input[1])
        bias = None
        if len(node.input) > 2 and node.input[2]:
            bias = self.index.array(node.input[2])
            if bias is None:
                return None
        return levels[node.input[0]], weight, bias

    def _transposed(
        self,
        node: onnx.NodeProto,
        x: Levels,
        weight: ConstantInt8,
        bias: np.ndarray | None,
        out: Levels,
    ) -> Levels | None:
        """A transposed convolution without overlap (kernel = stride) as 1x1 convolution + moves."""
        numbers = attributes(node)
        cin, cout, kh, kw = weight.levels.shape
        plain = (
            list(numbers.get("strides", [1, 1])) == [kh, kw]
            and not any(numbers.get("pads", ()))
            and not any(numbers.get("output_padding", ()))
            and numbers.get("group", 1) == 1
            and numbers.get("auto_pad", "NOTSET") == "NOTSET"
            and weight.axis in (1, None)
        )
        if not plain:
            return None
        levels = weight.levels.transpose(1, 2, 3, 0).reshape(cout * kh * kw, cin, 1, 1)
        scale = weight.scale if weight.axis is None else np.repeat(weight.scale, kh * kw)
        small = ConstantInt8(np.ascontiguousarray(levels), scale, None if not scale.ndim else 0)
        spread = None if bias is None else np.repeat(bias, kh * kw)
        name = node_name(node)
        flat = self.writer.convolution(
            x, small, spread, Levels(f"{out.name}_flat", out.scale, out.zero), name
        )
        n, _, h, w = self.index.shape(node.input[0])
        split = self.writer.constant(f"{out.name}_split", np.int64([n, cout, kh, kw, h, w]))
        joined = self.writer.constant(f"{out.name}_shape", np.int64([n, cout, h * kh, w * kw]))
        y = self.writer.node("Reshape", [flat.name, split], f"{out.name}_6d", name)
        y = self.writer.node("Transpose", [y], f"{out.name}_t", name, perm=[0, 1, 4, 2, 5, 3])
        y = self.writer.node("Reshape", [y, joined], out.name, name)
        return Levels(y, out.scale, out.zero)


def _gemm_weight(weight: ConstantInt8, numbers: dict) -> ConstantInt8 | None:
    """The weight as (K, N) with its steps along N; None for a Gemm that is more than a linear."""
    if numbers.get("transA", 0) or numbers.get("alpha", 1.0) != 1 or numbers.get("beta", 1.0) != 1:
        return None
    axis = weight.axis
    if numbers.get("transB", 0):
        weight = ConstantInt8(weight.levels.T, weight.scale, None if axis is None else 1 - axis)
    return weight if weight.axis in (1, None) else None
