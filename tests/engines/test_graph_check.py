"""Honest graphs pass with a margin; whatever is not the calibrated network does not."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tiny_networks
import torch
from onnx import numpy_helper
from tiny_networks import described, frames, made
from torch import Tensor, nn

from calibrators.calibrate import calibrate
from calibrators.frames import calibration_frames
from calibrators.recipe_files import load_recipe
from calibrators.reference import save_reference
from engines import graph_check
from engines.card import read_card
from engines.export import export
from engines.graph_check import STRICT, TYPED, check_graph
from engines.summary import _check_facts
from trt_lane.errors import TrtLaneError
from trt_lane.model import get_model
from trt_lane.models._checkpoint import bundled_weights, load_weights
from trt_lane.models._folded import fold

RECIPE = load_recipe("int8_mse")
NAMES = ("residual", "transformer", "decoder", "concats")


def prepared(
    folder: Path, model, network, images: Tensor, float_type="fp16", **changes
) -> SimpleNamespace:
    """Graphs, reference and table of a network, as `make engine` makes them."""
    graph_module = fold(network, model.image.input_hw)
    table = calibrate(graph_module, images, RECIPE)
    table = dataclasses.replace(table, **changes)
    save_reference(folder / "reference.npz", graph_module, table, images)
    with np.load(folder / "reference.npz") as file:
        reference = {name: file[name] for name in file.files}
    return SimpleNamespace(
        table=table,
        int8=export(model, network, table, folder / "int8.onnx", float_type),
        floats=export(model, network, None, folder / "float.onnx"),
        reference=reference,
    )


def tiny(folder: Path, name: str, float_type="fp16") -> SimpleNamespace:
    network = made(name)
    return prepared(folder, described(network), network, frames(), float_type)


@pytest.fixture(scope="module", params=NAMES)
def honest(request, tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("graphs"), request.param)


def checks(files: SimpleNamespace, model: onnx.ModelProto | None = None):
    model = model or files.int8
    return check_graph(model, read_card(model), files.reference, files.floats)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(i for i in model.graph.initializer if i.name == name)


def changed(model: onnx.ModelProto, name: str, value) -> None:
    """Give a constant another value of the same type."""
    old = constant(model, name)
    kind = numpy_helper.to_array(old).dtype
    old.CopyFrom(numpy_helper.from_array(np.asarray(value).astype(kind), name))


def activation_steps(model: onnx.ModelProto) -> list[str]:
    nodes = (n for n in model.graph.node if n.op_type == "QuantizeLinear")
    return list(dict.fromkeys(n.input[1] for n in nodes))


def weight_levels(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """Constant with the levels and constant with the steps of every layer."""
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    return [
        (n.input[0], n.input[1])
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and kinds.get(n.input[0]) == onnx.TensorProto.INT8
    ]


def refused(files: SimpleNamespace, model: onnx.ModelProto) -> bool:
    """By the strict judgement alone."""
    strict = checks(files, model)[0]
    assert strict.float_type == "fp32"
    return bool(strict.faults)


@pytest.mark.parametrize("float_type", ["fp32", "fp16"])
@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_an_honest_graph_passes_with_a_margin(tmp_path, name, float_type):
    files = tiny(tmp_path, name, float_type)
    found = checks(files)
    assert [check.float_type for check in found] == ["fp32", "fp16"][: len(found)]
    assert len(found) == (2 if float_type == "fp16" else 1)
    for check, limits in zip(found, (STRICT, TYPED), strict=False):
        assert check.faults == ()
        assert len(check.tensors) == len(files.table.sites)
        assert check.worst <= limits.levels / 5
        assert max(check.heads.values()) <= limits.heads / 5


def test_one_wrong_activation_step_is_caught_wherever_it_is(honest):
    for name in activation_steps(honest.int8):
        model = copied(honest.int8)
        changed(model, name, numpy_helper.to_array(constant(model, name)) * 1.1)
        assert refused(honest, model), name


def test_a_step_that_only_the_dequantising_side_has_wrong_is_caught(honest):
    for name in activation_steps(honest.int8):
        model = copied(honest.int8)
        step = numpy_helper.to_array(constant(model, name))
        model.graph.initializer.append(numpy_helper.from_array(step * step.dtype.type(1.1), "odd"))
        for node in model.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[1] == name:
                node.input[1] = "odd"
        assert refused(honest, model), name


def test_weights_one_level_off_are_caught_in_every_layer(honest):
    for levels, _ in weight_levels(honest.int8):
        model = copied(honest.int8)
        value = numpy_helper.to_array(constant(model, levels))
        changed(model, levels, np.where(value == 127, 126, value + 1))
        assert refused(honest, model), levels


def test_one_weight_of_an_output_one_level_off_is_caught_in_every_layer(honest):
    for levels, _ in weight_levels(honest.int8):
        model = copied(honest.int8)
        value = numpy_helper.to_array(constant(model, levels)).copy()
        one = value.reshape(len(value), -1)[:, value[0].size // 2]
        one += np.where(one == 127, -1, 1).astype(np.int8)
        changed(model, levels, value)
        assert refused(honest, model), levels


def test_steps_of_two_channels_swapped_are_caught_in_every_layer(honest):
    for _, steps in weight_levels(honest.int8):
        model = copied(honest.int8)
        value = numpy_helper.to_array(constant(model, steps)).copy()
        low, high = value.argmin(), value.argmax()
        value[[low, high]] = value[[high, low]]
        changed(model, steps, value)
        assert refused(honest, model), steps


def bypassed(model: onnx.ModelProto, source: str, target: str, reader: int | None = None) -> None:
    """Let readers of `target`, or one of them, read `source`."""
    places = [
        (node, i)
        for node in model.graph.node
        for i, name in enumerate(node.input)
        if name == target
    ]
    for node, i in places if reader is None else places[reader : reader + 1]:
        node.input[i] = source


def test_a_missing_pair_is_caught_and_named(honest):
    quantizers = [n for n in honest.int8.graph.node if n.op_type == "QuantizeLinear"]
    for node in quantizers:
        model = copied(honest.int8)
        pair = [n for n in model.graph.node if node.output[0] in (*n.input, *n.output)]
        bypassed(model, node.input[0], pair[1].output[0])
        for gone in pair:
            model.graph.node.remove(gone)
        strict = checks(honest, model)[0]
        assert any("has no Q/DQ in the graph" in fault for fault in strict.faults), node.name


def test_one_reader_that_takes_the_float_tensor_is_caught(honest):
    nodes = {name: n for n in honest.int8.graph.node for name in n.output}
    for output, node in nodes.items():
        quantizer = nodes.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantizer is None:  # a weight's
            continue
        readers = [n for n in honest.int8.graph.node for name in n.input if name == output]
        for i, reader in enumerate(readers):
            # Around a concat all levels are rounded again to what they are; lint sees to the pairs.
            if "cat" in (reader.op_type.lower() + output):
                continue
            model = copied(honest.int8)
            bypassed(model, quantizer.input[0], output, i)
            assert refused(honest, model), (output, reader.name)


@pytest.mark.parametrize("name", ["residual", "decoder"])
def test_a_lost_bias_is_caught(tmp_path, name):
    files = tiny(tmp_path, name)
    biases = [i.name for i in files.int8.graph.initializer if "bias" in i.name]
    assert len(biases) >= 4
    for bias in biases:
        model = copied(files.int8)
        changed(model, bias, 0 * numpy_helper.to_array(constant(model, bias)))
        assert refused(files, model), bias


class Swelling(nn.Module):
    """Holds numbers beyond FP16's range between two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.a(x)) * 1000.0 * 1000.0
        return {"out": self.b(x * 1e-3 * 1e-3)}


def test_what_overflows_in_fp16_is_caught_by_the_check_of_the_typing_alone(tmp_path):
    network = Swelling().eval()
    # Without the ranges of calibration export cannot know what to keep in FP32.
    files = prepared(tmp_path, described(network), network, frames(), maxima={})
    strict, typed = checks(files)
    assert strict.faults == ()
    assert typed.faults and typed.to_dict()["worst_levels"] > TYPED.levels


def test_learned_biases_are_as_exact_as_all_else(tmp_path):
    network = made("residual")
    bias = network.conv1.bias.detach().numpy() + np.float32(1 / 3)
    files = prepared(tmp_path, described(network), network, frames(), biases={"conv1.bias": bias})
    strict = checks(files)[0]
    assert strict.faults == () and strict.worst <= STRICT.levels / 5
    del files.reference["bias/conv1.bias"]
    assert checks(files)[0].worst > strict.worst  # only their FP16 form would be left


def test_a_graph_of_an_older_version_is_refused(tmp_path):
    files = tiny(tmp_path, "chain")
    card = dataclasses.replace(read_card(files.int8), sites=None)
    with pytest.raises(TrtLaneError, match=r"older version .*export it again"):
        check_graph(files.int8, card, files.reference, files.floats)


def test_a_check_is_plain_json(honest):
    model = copied(honest.int8)
    name = activation_steps(model)[-1]
    changed(model, name, np.float32(np.nan))
    for check in checks(honest, model):
        told = check.to_dict()
        assert told["faults"]
        assert all(np.isfinite(v) for v in (told["worst_levels"], *told["head_errors"].values()))


def test_people_are_told_which_tensor_is_wrong(honest):
    told = "\n".join(_check_facts([check.to_dict() for check in checks(honest)]))
    assert "the same network" in told and "in FP32" in told and "in FP16" in told
    model = copied(honest.int8)
    name = activation_steps(model)[1]
    changed(model, name, numpy_helper.to_array(constant(model, name)) * 1.1)
    told = " ".join(_check_facts([check.to_dict() for check in checks(honest, model)]))
    assert "NOT what was calibrated" in told and "levels off" in told


OFFICIAL = {
    "ufld": (None, "synthetic:calibration:4"),
    "lstr.tusimple": ("weights/lstr_tusimple.pkl", "tusimple:{}/data/tusimple"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_real_networks_pass_with_a_margin_and_their_faults_do_not(tmp_path, name, request):
    weights, data = OFFICIAL[name]
    model = get_model(name)
    if weights is None:
        path = bundled_weights(model)
    else:
        shared = request.getfixturevalue("shared")
        path, data = shared / weights, data.format(shared)
    network = model.build()
    load_weights(model, network, path)
    files = prepared(tmp_path, model, network, calibration_frames(data, model.image, 4))
    strict, typed = checks(files)
    assert strict.faults == () and strict.worst <= STRICT.levels / 5
    assert typed.faults == () and typed.worst <= TYPED.levels / 5
    for name in itertools.islice(activation_steps(files.int8), 0, None, 6):
        wrong = copied(files.int8)
        changed(wrong, name, numpy_helper.to_array(constant(wrong, name)) * 1.1)
        assert refused(files, wrong), name
    for levels, _ in itertools.islice(weight_levels(files.int8), 0, None, 6):
        wrong = copied(files.int8)
        value = numpy_helper.to_array(constant(wrong, levels))
        changed(wrong, levels, np.where(value == 127, 126, value + 1))
        assert refused(files, wrong), levels


def test_digits_come_back_also_where_fp16_has_few_of_them_or_none():
    exact = np.float32([0.3337, -1.0013e-6, 3.1e-8, 2.1e-5, 0.0])
    typed = (exact * np.float32([2, 4, 0.5, 0.5, 2])).astype(np.float16).astype(np.float32)
    assert typed[2] == 0
    found = graph_check._with_digits(typed, exact)
    assert found.tolist() == (exact * np.float32([2, 4, 0, 0.5, 2])).tolist()


@pytest.mark.parametrize("wrong", [0.0, 0.3340, -0.3337])
def test_digits_of_another_weight_are_not_taken(wrong):
    exact = np.float32([0.3337, 0.25])
    typed = np.float32([wrong, 0.25]).astype(np.float16).astype(np.float32)
    assert graph_check._with_digits(typed, exact).tolist() == typed.tolist()
