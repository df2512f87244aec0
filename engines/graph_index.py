"""GraphIndex: who makes and who reads each tensor of an ONNX graph, and which ones are constant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trt_lane.errors import TrtLaneError

# An int8 value is written as (level - zero) * scale; TensorRT knows only zero 0.
Q_OP, DQ_OP = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, eq=False)
class ConstantInt8:
    """Integer levels of a constant and their steps.

    Attributes:
        levels: int8, the constant's shape.
        scale: float32 () or (n,) along `axis`.
        axis: None for one step.
    """

    levels: np.ndarray
    scale: np.ndarray
    axis: int | None

    def real(self) -> np.ndarray:
        """The float32 values that the levels stand for."""
        if self.axis is None:
            return self.levels * np.float32(self.scale)
        shape = [-1 if i == self.axis else 1 for i in range(self.levels.ndim)]
        return self.levels * self.scale.reshape(shape).astype(np.float32)


class GraphIndex:
    """Read-only view of a model's graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.producer = {o: n for n in self.nodes for o in n.output if o}
        self.initializer = {i.name: i for i in model.graph.initializer}
        self.outputs = {o.name for o in model.graph.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                if name:
                    self.consumers.setdefault(name, []).append(node)
        self._arrays: dict[str, np.ndarray] = {}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Static shapes of all tensors that have one."""
        inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        known = {k: tuple(v.dims) for k, v in self.initializer.items()}
        values = (inferred.graph.value_info, inferred.graph.input, inferred.graph.output)
        for value in (v for group in values for v in group):
            kind = value.type.tensor_type
            if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
                known[value.name] = tuple(d.dim_value for d in kind.shape.dim)
        return known

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Static shape of a tensor; a dynamic one is an error."""
        if tensor not in self.shapes:
            raise TrtLaneError(
                f"tensor {tensor!r} has no static shape; export the ONNX with fixed sizes"
            )
        return self.shapes[tensor]

    def array(self, tensor: str) -> np.ndarray | None:
        """The value of an initializer or Constant node, None for anything else."""
        while self.op(tensor) == "Identity":  # exporters share equal constants that way
            tensor = self.producer[tensor].input[0]
        if tensor not in self._arrays:
            if tensor in self.initializer:
                self._arrays[tensor] = numpy_helper.to_array(self.initializer[tensor])
            elif self.op(tensor) == "Constant":
                value = attributes(self.producer[tensor]).get("value")
                if value is None:
                    return None
                self._arrays[tensor] = numpy_helper.to_array(value)
            else:
                return None
        return self._arrays[tensor]

    def op(self, tensor: str) -> str:
        """Type of the node that makes the tensor; "" for inputs and initializers."""
        return self.producer[tensor].op_type if tensor in self.producer else ""

    def sole_reader(self, tensor: str) -> bool:
        """Whether exactly one node reads the tensor and it is no output of the graph."""
        return tensor not in self.outputs and len(self.consumers.get(tensor, ())) == 1

    def constant_int8(self, tensor: str) -> ConstantInt8 | None:
        """The integer form of a dequantised constant, seen through Transpose and Identity."""
        node = self.producer.get(tensor)
        if node is None:
            return None
        if node.op_type == "Identity":
            return self.constant_int8(node.input[0])
        if node.op_type == "Transpose":
            inner = self.constant_int8(node.input[0])
            if inner is None:
                return None
            perm = list(attributes(node).get("perm", range(inner.levels.ndim)[::-1]))
            axis = None if inner.axis is None else perm.index(inner.axis)
            return ConstantInt8(inner.levels.transpose(perm), inner.scale, axis)
        if node.op_type != DQ_OP or not self._zero_is_0(node):
            return None
        scale = self.array(node.input[1])
        levels = self.array(node.input[0])
        if levels is None and self.op(node.input[0]) == Q_OP:
            levels = self._quantised_constant(self.producer[node.input[0]])
        if levels is None or scale is None or levels.dtype != np.int8:
            return None
        axis = attributes(node).get("axis", 1) % max(levels.ndim, 1) if scale.ndim else None
        if scale.size == 1:
            scale, axis = scale.reshape(()), None
        return ConstantInt8(levels, scale.astype(np.float32), axis)

    def activation_scale(self, node: onnx.NodeProto) -> float | None:
        """The step of a per-tensor symmetric Q or DQ node; None when it is not one."""
        scale = self.array(node.input[1])
        if scale is None or scale.size != 1 or not self._zero_is_0(node):
            return None
        return float(scale.reshape(()))

    def _zero_is_0(self, node: onnx.NodeProto) -> bool:
        if len(node.input) < 3 or not node.input[2]:
            return False  # without a zero point the type is uint8
        zero = self.array(node.input[2])
        return zero is not None and zero.dtype == np.int8 and not zero.any()

    def _quantised_constant(self, node: onnx.NodeProto) -> np.ndarray | None:
        value, scale = self.array(node.input[0]), self.array(node.input[1])
        if value is None or scale is None or not self._zero_is_0(node):
            return None
        axis = attributes(node).get("axis", 1)
        steps = scale.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
        return np.clip(np.rint(value / (steps if scale.ndim else scale)), -128, 127).astype(np.int8)


def attributes(node: onnx.NodeProto) -> dict:
    """Attributes of a node as Python values; strings decoded."""
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def node_name(node: onnx.NodeProto) -> str:
    """The node's name, or the one TensorRT's parser gives to an unnamed node."""
    return node.name or f"node_of_{node.output[0]}"
