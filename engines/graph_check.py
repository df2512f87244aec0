"""Proof that a Q/DQ graph is the calibrated network: its steps, levels, places and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.card import ModelCard
from engines.forced import Excess, judge
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import head_errors

_FP32, _FP16 = TensorProto.FLOAT, TensorProto.FLOAT16


@dataclass(frozen=True)
class Limits:
    """What an honest graph stays below.

    Attributes:
        levels: distance of a quantised tensor from the simulation's levels, in levels beyond the
            half that rounding may take; not where the graph jumps (Excess.jumps).
        share: of a tensor's elements that round to another level.
        heads: mean squared error of a head over its mean square, from the simulation's levels.
    """

    levels: float
    share: float
    heads: float


# In FP32 a stretch differs by the order of its sums. Measured on ufld and lstr.tusimple with
# everything in INT8, and with the heads, every other layer, the second half or everything in float:
# at most 1e-5 levels and 6e-14 of a head's power; on eight other families, most of them with random
# weights, 7e-4 levels (RESA), and behind clrnet's sampling 1.1 levels on 2.4 % of the elements. On
# ufld and lstr one step 10 % off gives 6 to 22 levels; a layer's weights one level off 2.6 to 18
# levels, or from 4e-6 of a head's power in the last layers.
STRICT = Limits(levels=0.01, share=0.1, heads=1e-9)
# FP16 rounds every tensor to 11 bits. Measured on the same: 0.026 levels on ufld, 0.13 on lstr (its
# attention), 1.2 on twinlitenet, 11 on 15 % of the elements behind clrnet's sampling, elsewhere at
# most 4.5 % to another level; 3.2e-7 of a head's power. What overflows or loses small numbers is
# off by orders more; what FP16 costs in lanes is in the scores.
TYPED = Limits(levels=32.0, share=0.35, heads=1e-4)
# Of the power of a head that jumps, in either type.
JUMPING_HEADS = 1e-2


@dataclass(frozen=True)
class GraphCheck:
    """A graph against the simulation, stretch by stretch.

    Attributes:
        float_type: what its float part computed in.
        limits: what was allowed.
        tensors: every quantised tensor, the worst first.
        heads: mean squared error over mean square by head.
        jumping: heads behind a sampling at computed places.
    """

    float_type: str
    limits: Limits
    tensors: tuple[Excess, ...]
    heads: dict[str, float]
    jumping: frozenset[str] = frozenset()

    @property
    def worst(self) -> float:
        """Largest distance in levels; 0 where nothing is quantised."""
        return max((e.worst for e in self.tensors), default=0.0)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is beyond the limits, in words; empty for an honest graph."""
        told = [
            f"{e.tensor} {e.fault or f'is {e.worst:.2g} levels off'}"
            for e in self.tensors
            if e.fault
            or e.share > self.limits.share
            or e.worst > (np.finfo(np.float32).max if e.jumps else self.limits.levels)
        ]
        limit = {name: JUMPING_HEADS for name in self.jumping}
        # Not `>`: NaN is a fault.
        off = [k for k, error in self.heads.items() if not error <= limit.get(k, self.limits.heads)]
        return (*told, *(f"head {name} is {self.heads[name]:.2g} of its power off" for name in off))

    def to_dict(self) -> dict:
        """Plain numbers for JSON."""
        return {
            "float_type": self.float_type,
            "limit_levels": self.limits.levels,
            "worst_levels": min(self.worst, 256.0),  # JSON has no infinity
            "worst_tensor": self.tensors[0].tensor if self.tensors else None,
            "tensors": len({e.tensor for e in self.tensors}),  # some for a layer in FP32 as well
            "head_errors": {k: float(np.nan_to_num(v, nan=1e30)) for k, v in self.heads.items()},
            "faults": list(self.faults),
        }


def check_graph(
    model: onnx.ModelProto,
    card: ModelCard,
    reference: Mapping[str, np.ndarray],
    float_graph: onnx.ModelProto,
) -> tuple[GraphCheck, ...]:
    """The graph with its float part in FP32, judged strictly, and as it is typed, if in FP16.

    Args:
        model: typed Q/DQ graph.
        card: its own.
        reference: "image", "first/HEAD", "levels/TENSOR" and "bias/NAME" of calibration.
        float_graph: FP32 graph of the same weights.
    """
    if card.sites is None:
        raise TrtLaneError("the ONNX is of an older version of trt_lane; export it again")
    image = reference["image"][:1]
    levels = part(reference, "levels")
    heads = part(reference, "first")
    exact = {
        i.name: numpy_helper.to_array(i)
        for i in float_graph.graph.initializer
        if i.data_type == _FP32
    }
    lifted = with_fp32(model, exact | part(reference, "bias"))
    forms = [("fp32", STRICT, lifted)]
    if card.float_type != "fp32":
        forms.append((card.float_type, TYPED, rounded(lifted, model)))
    checks = []
    for float_type, limits, form in forms:
        tensors, found, jumping = judge(form, card.sites, image, levels)
        worst_first = tuple(sorted(tensors, key=lambda e: -e.worst))
        errors = head_errors(found, heads)
        checks.append(GraphCheck(float_type, limits, worst_first, errors, frozenset(jumping)))
    return tuple(checks)


def part(reference: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays under one name, by what comes behind the first slash."""
    prefix = f"{name}/"
    return {k[len(prefix) :]: v for k, v in reference.items() if k.startswith(prefix)}


def with_fp32(model: onnx.ModelProto, exact: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The same graph with FP32 where it computes in FP16; scales and levels keep their values.

    Args:
        model: typed Q/DQ graph.
        exact: float32 constants by name, before they were typed. Biases and float weights get the
            digits back that FP16 cost them, if they round to the very same FP16 numbers.
    """
    lifted = onnx.ModelProto()
    lifted.CopyFrom(model)
    graph = lifted.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == _FP16:
            value.type.tensor_type.elem_type = _FP32
    for constant in graph.initializer:
        _lift(constant, exact.get(constant.name.removesuffix("_fp16")))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _lift(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FP16:
                attribute.i = _FP32
    return lifted


def _lift(tensor: onnx.TensorProto, exact: np.ndarray | None = None) -> None:
    if tensor.data_type == _FP16:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        if exact is not None and exact.shape == value.shape:
            value = _with_digits(value, exact)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _with_digits(value: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """What the FP16 numbers `value` were: `exact`, times powers of two, or not known (`value`).

    Ranges may have been moved between layers by powers of two, which cost no digit. Where the
    number is not that of `exact`, or FP16 left nothing of it, the graph's own is what is judged.
    """
    both = (value != 0) & (exact != 0)
    ratio = np.divide(value, exact, out=np.ones_like(value), where=both)
    moved = np.where(both, exact * np.exp2(np.rint(np.log2(np.abs(ratio)))), 0).astype(np.float32)
    # Judged after the rounding: subnormal numbers of FP16 have few digits, and may be none at all.
    same = moved.astype(np.float16).astype(np.float32) == value
    return np.where(same, moved, value)


def rounded(lifted: onnx.ModelProto, typed: onnx.ModelProto) -> onnx.ModelProto:
    """The FP32 form with every tensor rounded that is FP16 in the typed graph.

    ONNX Runtime has few FP16 kernels on a CPU: it runs the rest of a typed graph in FP32 from end
    to end, and nothing overflows there that would on a GPU.
    """
    inferred = onnx.shape_inference.infer_shapes(typed).graph
    half = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == _FP16}
    result = onnx.ModelProto()
    result.CopyFrom(lifted)
    nodes = []
    for node in result.graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in half:
                node.output[i] = f"{name}_exact"
                for source, target, to in (
                    (f"{name}_exact", f"{name}_half", _FP16),
                    (f"{name}_half", name, _FP32),
                ):
                    cast = helper.make_node(
                        "Cast", [source], [target], name=f"{source}_cast", to=to
                    )
                    nodes.append(cast)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result
