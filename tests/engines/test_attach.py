from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tiny_artifact import DECODER, row_anchor_pair

from engines.__main__ import main
from engines.attach import DOMAIN, attach, detach, plugin_nodes, prepared
from engines.build import build
from engines.card import KEY, check_outputs, read_card
from engines.target import load_target
from trt_lane.decoders import decoder_from_dict, decoder_to_dict
from trt_lane.errors import TrtLaneError
from trt_lane.plugin_library import LANE_OUTPUTS


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return row_anchor_pair().qdq


def with_decoder(model: onnx.ModelProto, **change: object) -> onnx.ModelProto:
    """The model with other numbers in its card."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for entry in changed.metadata_props:
        if entry.key == KEY:
            card = json.loads(entry.value)
            card["decoder"] = {**card["decoder"], **change}
            entry.value = json.dumps(card)
    return changed


def numbers_of(node: onnx.NodeProto) -> dict:
    """The node's attributes as the plugin reads them: texts of numbers become numbers."""
    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            words = value.decode().split()
            value = [float(w) for w in words] if words[0][0].isdigit() else value.decode()
        found[attribute.name] = value
    return found


def test_the_node_carries_the_numbers_of_the_card_to_the_last_digit(model):
    decoder = replace(DECODER, cell_px=799 / 199 * 1640 / 800, rows_px=(0.1, 200.0))
    node = plugin_nodes(attach(with_decoder(model, **decoder_to_dict(decoder))))[0]
    assert (node.op_type, node.domain) == ("row_anchor", DOMAIN)
    numbers = numbers_of(node)
    assert numbers.pop("plugin_version") == [1.0]
    assert numbers.pop("plugin_namespace") == DOMAIN
    numbers["cell_px"] = numbers["cell_px"][0]
    assert decoder_from_dict({"name": "row_anchor", **numbers}) == decoder
    assert isinstance(numbers["cells"], int)


def test_heads_stay_and_lanes_come(model):
    attached = attach(model)
    names = [output.name for output in attached.graph.output]
    assert names == ["logits", *LANE_OUTPUTS]
    kinds = [output.type.tensor_type.elem_type for output in attached.graph.output[1:]]
    assert kinds == [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32]
    assert list(plugin_nodes(attached)[0].input) == ["logits"]
    assert {o.domain: o.version for o in attached.opset_import}[DOMAIN] == 1
    onnx.checker.check_model(attached)
    check_outputs(attached, read_card(attached))


def test_detaching_gives_the_model_back(model):
    assert detach(attach(model)) == model
    assert detach(model) == model


def test_fields_of_the_plugin_alone_can_be_given(model):
    assert numbers_of(plugin_nodes(attach(model, slots=1))[0])["slots"] == 1


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({}, {"slots": 99}, "slots is 99; expected a whole number from 0 to 64"),
        ({}, {"seats": 4}, "no field 'seats'; fields: frame_hw"),
        ({"cells": 70_000}, {}, "cells is 70000; expected a whole number from 1 to 65536"),
    ],
)
def test_numbers_that_the_plugin_does_not_take_are_refused(model, change, more, message):
    with pytest.raises(TrtLaneError) as error:
        attach(with_decoder(model, **change), **more)
    assert message in str(error.value)


def test_what_cannot_be_attached_is_told(model):
    with pytest.raises(TrtLaneError, match="has its decoder already: row_anchor"):
        attach(attach(model))
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    with pytest.raises(TrtLaneError, match="python -m engines export"):
        attach(bare)
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    renamed.graph.output[0].name = "other"
    with pytest.raises(TrtLaneError, match="no output 'logits', which the plugin row_anchor reads"):
        attach(renamed)


def test_heads_of_two_types_are_read_as_float(model):
    from engines.attach import _of_one_type

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kinds = {"a": TensorProto.FLOAT16, "b": TensorProto.FLOAT}
    assert _of_one_type(copy, kinds) == ["a_float", "b"]
    assert copy.graph.node[-1].op_type == "Cast"
    assert _of_one_type(copy, {"a": TensorProto.FLOAT16}) == ["a"]


@pytest.mark.parametrize(
    ("target", "given", "node"),
    [("local", True, True), ("local", False, False), ("rtx", True, False), ("cpu", True, False)],
)
def test_only_tensorrt_gets_the_node(model, tmp_path, target, given, node):
    library = tmp_path / "libtrt_lane_plugins.so" if given else None
    found, note = prepared(model, load_target(target), library)
    assert bool(plugin_nodes(found)) is node
    assert (found is model) == (note == "") == (not node)
    found, note = prepared(attach(model), load_target(target), library)
    assert bool(plugin_nodes(found)) is (target == "local")
    assert ("row_anchor is left out" in note) is (target != "local")


def test_a_model_without_a_card_is_built_as_it_is(model, tmp_path):
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    assert prepared(bare, load_target("local"), tmp_path / "library.so") == (bare, "")


def test_an_engine_for_the_cpu_leaves_the_node_out_and_says_so(model, tmp_path):
    path = tmp_path / "attached.onnx"
    onnx.save(attach(model), path)
    result = build(path, load_target("cpu"), tmp_path / "out")
    assert "row_anchor is left out: onnxruntime has no such plugin" in result.notes
    assert [o.name for o in onnx.load(result.engine).graph.output] == ["logits"]


def test_plugins_and_their_fields_are_listed(capsys):
    assert main(["plugins", "row_anchor"]) == 0
    text = capsys.readouterr().out
    assert "reads logits: (N, cells + 1, rows, lanes)" in text
    assert "cells: a whole number from 1 to 65536. grid cells across the frame" in text
    assert "slots: a whole number from 0 to 64, default 0." in text
    assert main(["plugins"]) == 0
    assert "preprocess: crop, resize" in capsys.readouterr().out
    assert main(["plugins", "row"]) == 2
    assert "no plugin 'row'; plugins: " in capsys.readouterr().err


def test_the_command_says_what_it_attached(model, tmp_path, capsys):
    onnx.save(model, tmp_path / "m.onnx")
    out = tmp_path / "out.onnx"
    assert main(["attach", str(tmp_path / "m.onnx"), "--out", str(out), "--slots", "2"]) == 0
    assert "trt_lane::row_anchor reads logits" in capsys.readouterr().out
    assert numbers_of(plugin_nodes(onnx.load(out))[0])["slots"] == 2
    assert np.isclose(numbers_of(plugin_nodes(onnx.load(out))[0])["cell_px"], DECODER.cell_px)
