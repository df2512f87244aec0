"""Turns the exporter's markers into Q/DQ nodes, INT8 weights and tensor names."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trt_lane.scales import Scale, ScaleTable

DOMAIN = "trt_lane"


def resolve_markers(model: onnx.ModelProto, table: ScaleTable | None) -> dict[str, str]:
    """Replace every marker in place; returns the tensor's name by the graph node's name.

    Name: its tensor takes that name, but a head keeps the head's. Quantize: QuantizeLinear and
    DequantizeLinear with the key's step. Weight: the float initialiser becomes the table's int8
    levels behind a DequantizeLinear along the weight's channel axis.
    """
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    names: dict[str, str] = {}
    outputs = {output.name for output in graph.output}
    steps = _Initialisers(graph)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = _final(renamed, name)
        if node.domain != DOMAIN:
            nodes.append(node)
            continue
        name = node.attribute[0].s.decode()
        if node.op_type == "Name":
            _rename(nodes, node, name, renamed, outputs)
            names[name] = node.output[0]
        elif node.op_type == "Quantize":
            renamed[node.output[0]] = _quantize(
                nodes, steps, node.input[0], name, table.activations[name]
            )
        else:
            weight = f"{name}_int8"
            steps.add(weight, table.rounded[name])
            renamed[node.output[0]] = _dequantize(nodes, steps, weight, name, table.weights[name])
    del graph.node[:]
    graph.node.extend(live_nodes(nodes, outputs))
    kept = [o for o in model.opset_import if o.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    _drop_unused_initialisers(graph)
    del graph.value_info[:]
    return {name: _final(renamed, marked) for name, marked in names.items()}


def live_nodes(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """Nodes that some output needs, in order."""
    wanted, live = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            live.append(node)
    return live[::-1]


def _final(renamed: dict[str, str], name: str) -> str:
    while renamed.get(name, name) != name:
        name = renamed[name]
    return name


class _Initialisers:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.names = {i.name for i in graph.initializer}

    def add(self, name: str, value: np.ndarray) -> str:
        if name not in self.names:
            self.names.add(name)
            # asarray, for ascontiguousarray makes a scalar (1,): the builder then reads one step
            # per channel and fuses nothing.
            self.graph.initializer.append(
                numpy_helper.from_array(np.asarray(value, order="C"), name)
            )
        return name


def _rename(
    nodes: list[onnx.NodeProto],
    marker: onnx.NodeProto,
    name: str,
    renamed: dict[str, str],
    outputs: set[str],
) -> None:
    """Give the tensor behind a Name marker its name, unless it is a graph output."""
    source, target = marker.input[0], marker.output[0]
    maker = next((n for n in reversed(nodes) if source in n.output), None)
    if maker is None or source in outputs:  # nothing of its own to name: an input, or a head
        if target in outputs:
            nodes.append(helper.make_node("Identity", [source], [target], name=name))
        else:
            renamed[target] = source
        return
    if name in outputs:  # a layer that is called as some head is
        name = f"{name}_inner"
    new = target if target in outputs else name
    position = list(maker.output).index(source)
    maker.output[position] = new
    if position == 0:
        maker.name = name
    renamed[source] = renamed[target] = new
    for node in nodes:
        for i, used in enumerate(node.input):
            if used == source:
                node.input[i] = new


def _quantize(
    nodes: list[onnx.NodeProto], steps: _Initialisers, tensor: str, key: str, scale: Scale
) -> str:
    scale_name = steps.add(f"{key}_scale", scale.value)
    zero = steps.add("zero_point", np.int8(0).reshape(()))
    levels, output = f"{tensor}_q", f"{tensor}_dq"
    if any(output in n.output for n in nodes):
        return output  # two graph nodes that are one tensor here
    nodes += [
        helper.make_node(
            "QuantizeLinear", [tensor, scale_name, zero], [levels], name=f"{tensor}_quantize"
        ),
        helper.make_node(
            "DequantizeLinear", [levels, scale_name, zero], [output], name=f"{tensor}_dequantize"
        ),
    ]
    return output


def _dequantize(
    nodes: list[onnx.NodeProto], steps: _Initialisers, weight: str, name: str, scale: Scale
) -> str:
    output = f"{name}_dq"
    if any(output in n.output for n in nodes):
        return output  # a layer that is called twice
    scale_name = steps.add(f"{name}_scale", scale.value)
    inputs = [weight, scale_name, steps.add(f"{name}_zero", np.zeros(len(scale.value), np.int8))]
    nodes.append(
        helper.make_node(
            "DequantizeLinear", inputs, [output], name=f"{name}_dequantize", axis=scale.axis
        )
    )
    return output


def _drop_unused_initialisers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
