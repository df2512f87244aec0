"""What holds for every model of the registry; what is special to a family is in its own file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from exported import assert_export_agrees, assert_heads_described, assert_trace_agrees
from filled import filled
from rule import load_case

from calibrators.calibrate import calibrate
from calibrators.recipe_files import load_recipe
from calibrators.reference import save_reference
from engines.card import read_card
from engines.export import export
from engines.graph_check import check_graph
from trt_lane.decoders import decoder_from_dict, decoder_to_dict
from trt_lane.image import ImageSpec
from trt_lane.model import Metric, get_model, list_families, list_models
from trt_lane.models._folded import fold

NAMES = list_models()


def light(family):
    """Its demo, else its variant on the smallest trunk, else its last."""
    own = [n for n in NAMES if n.partition(".")[0] == family]
    return next((n for n in (family, f"{family}.r18_culane") if n in own), own[-1])


LIGHT = [light(family) for family in list_families()]
HUGE = {"ufldv2"}  # 90 to 210 million weights: half of a minute to draw them
# Official networks' outputs (shared/README.md) that are the heads as they are; those of the other
# families are put together differently and compared in their files.
CASES = (
    *("bezierlanenet_r18_culane", "erfnet_culane", "ganet_r18_culane", "resa_r18_culane"),
    *("scnn_r18_culane", "ufld_r18_culane", "ufldv2_r18_culane"),
)


def marked(names, fast=()):
    """The names as parameters, slow but for those given and never those that are huge."""
    slow = {n for n in names if n.partition(".")[0] in HUGE or (fast and n not in fast)}
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]


@pytest.mark.parametrize("case", marked(CASES, [c for c in CASES if not c.startswith("ufldv2")]))
def test_agrees_with_the_official_network(shared, case):
    case = load_case(shared, case)
    model = get_model(case.name.replace("_", ".", 1))
    outputs = case.run(case.fill(model.build(), model.training_only))
    names = [head.name for head in model.heads]
    assert set(names) <= set(case.outputs)
    case.assert_agrees(outputs, names)


@pytest.mark.parametrize("name", NAMES)
def test_heads_have_the_described_shape(name):
    assert_heads_described(get_model(name))


@pytest.mark.parametrize("name", marked([*LIGHT, "condlanenet.r18_curvelanes"]))
def test_traced_network_gives_the_same_for_any_batch(name):
    model = get_model(name)
    assert_trace_agrees(model, filled(model))


@pytest.mark.parametrize("name", marked(NAMES, [*LIGHT, "bezierlanenet.r18_culane"]))
def test_export_agrees(name):
    model = get_model(name)
    assert_export_agrees(model, filled(model))


@pytest.mark.parametrize("name", [name for name in NAMES if "." not in name])
def test_demo_fits_in_twelve_megabytes_of_half_floats(name):
    with torch.device("meta"):
        assert 2 * sum(p.numel() for p in get_model(name).network().parameters()) < 12e6


@pytest.mark.parametrize("name", marked(LIGHT, ["ganet", "laneatt"]))
def test_an_honest_quantised_graph_raises_no_alarm(tmp_path, name):
    model = get_model(name)
    network = filled(model)
    graph_module = fold(network, model.image.input_hw)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 3, *model.image.input_hw, generator=generator)
    table = calibrate(graph_module, frames, load_recipe("int8_minmax"), model.float_layers)
    save_reference(tmp_path / "reference.npz", graph_module, table, frames)
    quantised = export(model, network, table, tmp_path / "int8.onnx", "fp16")
    floats = export(model, network, None, tmp_path / "float.onnx")
    with np.load(tmp_path / "reference.npz") as file:
        reference = {key: file[key] for key in file.files}
    for check in check_graph(quantised, read_card(quantised), reference, floats):
        assert check.faults == ()
        assert {e.tensor for e in check.tensors} == {site.tensor for site in table.sites}


@pytest.mark.parametrize("name", NAMES)
def test_geometry_and_decoder_survive_the_sidecar(name):
    model = get_model(name)
    told = json.loads(json.dumps([model.image.to_dict(), decoder_to_dict(model.decoder)]))
    assert ImageSpec.from_dict(told[0]) == model.image
    assert decoder_from_dict(told[1]) == model.decoder


@pytest.mark.parametrize("name", NAMES)
def test_the_metric_is_that_of_the_data_set_in_the_name(name):
    data = name.replace(".", "_").rpartition("_")[2] if "." in name else Metric.CULANE.value
    metric = get_model(name).metric
    if data in list(Metric):  # a data set of one's own has no official score
        assert metric.value == data
    assert metric.rule


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_inference_lacks_are_declared(name):
    model = get_model(name)
    with torch.device("meta"):
        keys = model.network().state_dict()
    assert not any(key.startswith(model.training_only) for key in keys if model.training_only)
