"""A Q/DQ graph judged from one quantised tensor to the next, on the simulation's own levels.

Run as a whole, a deep quantised network is chaotic: a difference of 1e-6 flips a rounding, and the
flips grow all the way to the heads, where nothing is left to tell a wrong scale from bad luck. So
every QuantizeLinear is cut out here and the simulation's levels are put in behind it. Each stretch
of the graph then starts from the right numbers, is compared where it ends, and errs on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.graph_runner import GraphRunner

_FP32 = TensorProto.FLOAT
JUMPING_OPS = {"GridSample"}
TWIN = "_fp32"  # what engines.typed puts behind the name of a second Q for an FP32 layer


@dataclass(frozen=True)
class Excess:
    """How far a graph's numbers are from the simulation's levels.

    Attributes:
        tensor: the graph node whose tensor is quantised.
        worst: largest distance in levels beyond the half that rounding may take; 0 is perfect.
        share: of the elements that round to another level.
        fault: why nothing could be compared; "" when it was.
        jumps: whether the stretch before it samples at computed places: beside the map's edge the
            last bit of a place decides between a value and nothing.
    """

    tensor: str
    worst: float
    share: float
    fault: str = ""
    jumps: bool = False


def judge(
    model: onnx.ModelProto,
    sites: Mapping[str, str],
    image: np.ndarray,
    levels: Mapping[str, np.ndarray],
) -> tuple[list[Excess], dict[str, np.ndarray], set[str]]:
    """Every quantised tensor against the simulation, and the heads that follow from its levels.

    Args:
        model: Q/DQ graph, of any float type.
        sites: the QuantizeLinear's output in the graph by the quantised tensor's name.
        image: float32 (1, 3, h, w).
        levels: int8 levels of the simulation for that image, by the quantised tensor's name.

    Returns:
        One Excess per tensor of `levels`, heads (1, ...) by name, and which of the heads jump.
    """
    tensors_of: dict[str, list[str]] = {}  # a view that does nothing gives a tensor two names
    for tensor in levels.keys() & sites.keys():
        tensors_of.setdefault(sites[tensor], []).append(tensor)
    cut, probes = _cut(model, tensors_of, levels)
    inputs = {p.levels: levels[p.tensor] for p in probes}
    found = GraphRunner(cut.SerializeToString()).run({cut.graph.input[0].name: image, **inputs})
    makers = {output: node for node in cut.graph.node for output in node.output}
    excesses = [
        replace(_excess(p, found[p.output], levels[p.tensor]), jumps=_jumps(p.output, makers))
        for p in probes
    ]
    seen = {e.tensor for e in excesses}
    lost = [Excess(t, np.inf, 1.0, "has no Q/DQ in the graph") for t in levels if t not in seen]
    heads = {output.name: found[output.name] for output in model.graph.output}
    return excesses + lost, heads, {name for name in heads if _jumps(name, makers)}


@dataclass(frozen=True)
class _Probe:
    tensor: str  # in the simulation
    levels: str  # graph input that stands for the QuantizeLinear
    output: str  # graph output with what it would have quantised
    scale: np.ndarray
    zero: np.ndarray


def _cut(
    model: onnx.ModelProto,
    tensors_of: Mapping[str, list[str]],
    levels: Mapping[str, np.ndarray],
) -> tuple[onnx.ModelProto, list[_Probe]]:
    """The graph with the simulation's levels as inputs and the numbers before them as outputs."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    constants = {i.name: i for i in graph.initializer}
    nodes, probes = [], []
    for node in graph.node:
        tensors = tensors_of.get(node.output[0].removesuffix(TWIN), ())
        if node.op_type != "QuantizeLinear" or not tensors:
            nodes.append(node)
            continue
        name, probe = node.output[0], f"{node.output[0]}_before"
        # An Identity in FP16 and a Cast alike: the output is FP32 whatever the tensor is.
        nodes.append(helper.make_node("Cast", [node.input[0]], [probe], name=probe, to=_FP32))
        shape = levels[tensors[0]].shape
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT8, shape))
        graph.output.append(helper.make_tensor_value_info(probe, _FP32, None))
        steps = [numpy_helper.to_array(constants[i]).astype(np.float32) for i in node.input[1:]]
        step, zero = (*steps, np.float32(0))[:2]
        probes += [_Probe(tensor, name, probe, step, zero) for tensor in tensors]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return cut, probes


def _excess(probe: _Probe, value: np.ndarray, levels: np.ndarray) -> Excess:
    if value.shape != levels.shape:
        return Excess(probe.tensor, np.inf, 1.0, f"is {value.shape}, expected {levels.shape}")
    if probe.scale.size != 1:
        return Excess(probe.tensor, np.inf, 1.0, "has a step per channel, expected one for all")
    exact = np.clip(value / probe.scale.reshape(()) + probe.zero.reshape(()), -128, 127)
    distance = float(np.max(np.abs(exact - levels), initial=0.0))
    # A NaN is no number of levels away and would pass for 0.
    worst = np.inf if np.isnan(distance) else max(distance - 0.5, 0.0)
    return Excess(probe.tensor, worst, float(np.mean(np.rint(exact) != levels)))


def _jumps(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a tensor comes from a sampling at computed places, with no quantisation between."""
    queue, seen = [name], set()
    while queue:
        node = makers.get(queue.pop())
        if node is None or node.output[0] in seen:
            continue
        if node.op_type in JUMPING_OPS:
            return True
        seen.add(node.output[0])
        queue += node.input
    return False
