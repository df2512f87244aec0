"""Puts the decoder's plugin behind the heads of an ONNX, with the numbers of the model's card.

The node is `trt_lane::<decoder>`; TensorRT finds its plugin in libtrt_lane_plugins.so. The heads
stay outputs, so that one engine serves both the vehicle and comparisons of heads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from engines.card import read_card
from engines.target import Target
from trt_lane.building.recipe import BuilderKind
from trt_lane.decoders import decoder_from_dict, decoder_to_dict
from trt_lane.errors import TrtLaneError
from trt_lane.plugin_fields import FOLDER, FieldType, PluginDescription, read_plugins
from trt_lane.plugin_library import LANE_OUTPUTS

DOMAIN = "trt_lane"


def attach(model: onnx.ModelProto, **more: Any) -> onnx.ModelProto:
    """A copy of the ONNX with the plugin of its card's decoder behind the heads.

    Args:
        model: with a card in its metadata, as `engines export` makes it.
        more: fields that only the plugin has, as slots=4.

    Raises:
        TrtLaneError: no card, no plugin for the decoder, numbers that the plugin does not take, or
            a graph that has the node already.
    """
    card = read_card(model)
    if card is None:
        raise TrtLaneError(
            "the ONNX does not say which decoder its heads are for; make it with: "
            "python -m engines export"
        )
    if plugin_nodes(model):
        raise TrtLaneError(f"the ONNX has its decoder already: {plugin_nodes(model)[0].op_type}")
    plugin = _plugin_of(card.decoder["name"])
    # Through the dataclass, so that a field that the card leaves to its default is there.
    numbers = {**decoder_to_dict(decoder_from_dict(card.decoder)), **more}
    numbers.pop("name")
    shapes = {head.name: head.shape for head in card.heads}
    values = plugin.checked({**plugin.head_sizes(shapes), **numbers})
    attached = onnx.ModelProto()
    attached.CopyFrom(model)
    _append(attached, plugin, values)
    return attached


def detach(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the ONNX without plugins behind the heads."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    nodes = plugin_nodes(bare)
    made = {name for node in nodes for name in node.output}
    for node in nodes:
        bare.graph.node.remove(node)
    for outputs in (bare.graph.output, bare.graph.value_info):
        for value in [v for v in outputs if v.name in made]:
            outputs.remove(value)
    for entry in [e for e in bare.opset_import if e.domain == DOMAIN]:
        bare.opset_import.remove(entry)
    return bare


def prepared(
    model: onnx.ModelProto, target: Target, plugin_library: Path | None
) -> tuple[onnx.ModelProto, str]:
    """What a target's builder gets of a model, and in words what was done to it, "" for nothing.

    TensorRT gets the decoder's plugin when its library is given and there is a plugin for the
    decoder. TensorRT-RTX ends its process on a node that it does not know, and ONNX Runtime has
    none of ours, so there the node is left out, and the decoder follows behind the engine.

    Args:
        model: with or without the plugin.
        target: what it is built for.
        plugin_library: libtrt_lane_plugins.so, or None.
    """
    nodes = plugin_nodes(model)
    if target.builder is not BuilderKind.TENSORRT:
        if not nodes:
            return model, ""
        left_out = f"{nodes[0].op_type} is left out: {target.builder.value} has no such plugin"
        return detach(model), left_out
    card = read_card(model)
    if plugin_library is None or nodes or card is None or not _has_plugin(card.decoder["name"]):
        return model, ""
    return attach(model), f"{card.decoder['name']} is attached behind the heads as a plugin"


def plugin_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of our plugins."""
    return [node for node in model.graph.node if node.domain == DOMAIN]


def _has_plugin(decoder: str) -> bool:
    return (FOLDER / decoder / f"{decoder}.yaml").is_file()


def _plugin_of(decoder: str) -> PluginDescription:
    if not _has_plugin(decoder):
        known = ", ".join(p.name for p in read_plugins() if p.kind == "decoder")
        raise TrtLaneError(f"no plugin for the decoder {decoder!r} in {FOLDER}; plugins: {known}")
    return read_plugins(names=[decoder])[0]


def _append(model: onnx.ModelProto, plugin: PluginDescription, values: dict[str, Any]) -> None:
    heads = {output.name: output.type.tensor_type for output in model.graph.output}
    names = plugin.present(heads)
    missing = [name for name in names if name not in heads]
    if missing:
        raise TrtLaneError(
            f"the ONNX has no output {missing[0]!r}, which the plugin {plugin.name} reads; "
            f"outputs: {', '.join(heads)}"
        )
    inputs = _of_one_type(model, {name: heads[name].elem_type for name in names})
    # ONNX gives an empty list no type; a field that may be empty is empty where none is given.
    given = {name: value for name, value in values.items() if value not in ((), [])}
    attributes = {name: _attribute(plugin, name, value) for name, value in given.items()}
    node = helper.make_node(
        plugin.name,
        inputs,
        list(LANE_OUTPUTS),
        name=f"{DOMAIN}/{plugin.name}",
        domain=DOMAIN,
        plugin_version=plugin.version,
        plugin_namespace=DOMAIN,
        **attributes,
    )
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    batch = heads[names[0]].shape.dim[0].dim_value
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32)
    shapes = ([batch, "slots", "points", 2], [batch, "slots"], [batch, 2])
    model.graph.output.extend(
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in zip(LANE_OUTPUTS, kinds, shapes, strict=True)
    )


def _of_one_type(model: onnx.ModelProto, kinds: dict[str, int]) -> list[str]:
    """Names of the heads; where float32 and float16 are mixed, of their float32 copies."""
    if len(set(kinds.values())) == 1:
        return list(kinds)
    names = []
    for name, kind in kinds.items():
        if kind != TensorProto.FLOAT:
            cast = helper.make_node(
                "Cast", [name], [f"{name}_float"], name=f"{name}_to_float", to=TensorProto.FLOAT
            )
            model.graph.node.append(cast)
            name = cast.output[0]
        names.append(name)
    return names


def _attribute(plugin: PluginDescription, name: str, value: Any) -> Any:
    """An ONNX attribute that keeps every digit: ONNX has float32 only, so others go as text."""
    field = plugin.fields[name]
    if field.type is FieldType.TEXT:
        return value
    numbers = list(value) if isinstance(value, (tuple, list)) else [value]
    if field.type is FieldType.FLOAT:
        numbers = [float(n) for n in numbers]
        if any(float(np.float32(n)) != n for n in numbers):
            return " ".join(repr(n) for n in numbers)
    else:
        numbers = [int(n) for n in numbers]
    return numbers if field.count[1] > 1 else numbers[0]
