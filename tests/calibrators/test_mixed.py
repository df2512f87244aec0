import numpy as np
import onnx
import pytest
import tiny_networks
import torch
from tiny_networks import HW, described, folded, frames, made

from calibrators.calibrate import calibrate
from calibrators.fake_quant import quantised_network
from calibrators.insert import quantisation_sites, quantised_layers
from calibrators.network_parts import blocks, head_layers
from calibrators.recipe_files import load_recipe
from calibrators.sensitivity.macs import layer_macs, share_of
from calibrators.sensitivity.mixed import check_weights, only_layers, table_layers, without_layers
from calibrators.sensitivity.variants import FLOAT, FULL, Variants
from engines.export import export
from engines.lint import lint
from engines.macs import count_macs
from trt_lane.errors import TrtLaneError
from trt_lane.models._folded import fold

MINMAX = load_recipe("int8_minmax")


def calibrated(name):
    graph_module = folded(name)
    return graph_module, calibrate(graph_module, frames(), MINMAX)


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_a_table_without_any_layer_exports_without_findings(tmp_path, name):
    network = made(name)
    graph_module = fold(network, HW)
    table = calibrate(graph_module, frames(), MINMAX)
    for layer in table_layers(table):
        mixed = without_layers(table, graph_module, [layer])
        exported = export(described(network), network, mixed, tmp_path / "m.onnx", "fp16")
        assert lint(exported) == [], layer
        kept = {i.name for i in exported.graph.initializer if i.name.endswith("_int8")}
        assert kept == {f"{p}.weight_int8" for p in table_layers(table) if p != layer}


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_sites_are_those_of_a_network_with_these_layers_in_float(name):
    graph_module, table = calibrated(name)
    layers = table_layers(table)
    mixed = without_layers(table, graph_module, layers[::2])
    assert mixed.sites == quantisation_sites(graph_module, layers[::2])
    assert table_layers(mixed) == quantised_layers(graph_module, layers[::2])
    before = {site.tensor: table.activations[site.key] for site in table.sites}
    for site in mixed.sites:
        if site.tensor in before:
            assert mixed.activations[site.key] is before[site.tensor]


def test_nothing_quantised_is_a_table_without_sites_that_is_the_float_network(tmp_path):
    graph_module, table = calibrated("residual")
    empty = without_layers(table, graph_module, table_layers(table))
    assert not empty.sites and not empty.weights and not empty.activations
    with torch.no_grad():
        found, expected = quantised_network(graph_module, empty)(frames(2)), graph_module(frames(2))
    assert torch.equal(found["out"], expected["out"])
    empty.save(tmp_path / "empty.npz")
    network = made("residual")
    exported = export(described(network), network, empty, tmp_path / "m.onnx", "fp16")
    assert lint(exported) == []
    onnx.checker.check_model(exported)


def test_without_nothing_is_the_table_itself():
    graph_module, table = calibrated("concats")
    assert without_layers(table, graph_module, []).digest() == table.digest()


def test_a_newly_quantised_operand_takes_the_range_seen_in_calibration():
    graph_module, table = calibrated("downsample")
    assert "conv2" not in {site.tensor for site in table.sites}
    mixed = without_layers(table, graph_module, ["conv2"])
    site = next(s for s in mixed.sites if s.tensor == "conv2")
    step = float(mixed.activations[site.key].value)
    assert step == pytest.approx(table.maxima["conv2"] / 127, rel=1e-3)


def test_a_table_of_other_weights_is_refused():
    _, table = calibrated("chain")
    with pytest.raises(TrtLaneError, match="other weights"):
        check_weights(table, folded("chain", seed=7))
    with pytest.raises(TrtLaneError, match="other weights"):
        check_weights(table, folded("concats"))


def test_a_heads_own_layers_lead_to_it_alone():
    found = head_layers(folded("heads"))
    assert found["first"] == ("second",) or found["first"] == ()
    assert "stem" not in {path for layers in found.values() for path in layers}


def test_layers_that_two_heads_share_belong_to_neither():
    found = head_layers(folded("transformer"))
    assert found["mean"] == ()
    assert found["tokens"] == ("matmul_2_layer",) or len(found["tokens"]) == 1


def test_one_heads_own_layers_are_those_of_the_last_block():
    assert head_layers(folded("flat")) == {"out": ("fc2",)}


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_blocks_hold_every_layer_once_under_unique_names(name):
    graph_module = folded(name)
    found = blocks(graph_module)
    assert [p for b in found for p in b.layers] == quantised_layers(graph_module)
    assert len({block.name for block in found}) == len(found)


@pytest.mark.parametrize("name", [n for n in tiny_networks.ALL if n != "shared"])
def test_macs_are_those_counted_in_the_onnx(tmp_path, name):
    network = made(name)
    exported = export(described(network), network, None, tmp_path / "m.onnx")
    expected = sum(node.macs for node in count_macs(exported) if node.weighted)
    assert sum(layer_macs(fold(network, HW)).values()) == expected


def test_a_layer_that_is_called_twice_counts_twice():
    macs = layer_macs(folded("shared"))
    assert macs["twice"] == 2 * (16 * 24) * 4 * 4 * 9
    assert share_of(["twice", "twice"], macs) == macs["twice"] / sum(macs.values())


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_forms_give_what_their_own_network_gives(name):
    graph_module, table = calibrated(name)
    layers = table_layers(table)
    tables = {f"only {p}": only_layers(table, graph_module, [p]) for p in layers}
    tables |= {f"without {p}": without_layers(table, graph_module, [p]) for p in layers}
    expected = {n: quantised_network(graph_module, t) for n, t in tables.items()}
    expected |= {FLOAT: graph_module, FULL: quantised_network(graph_module, table)}
    variants = Variants(graph_module, table)
    seen = []
    images = frames(9)
    for part, heads in variants.runs(tables, images):
        seen.append(part)
        assert heads.keys() == expected.keys()
        for form, network in expected.items():
            with torch.no_grad():
                outputs = network(images[part])
            for head, value in outputs.items():
                np.testing.assert_allclose(heads[form][head], value, rtol=0, atol=1e-6)
    assert [p.start for p in seen] == [0, 8] and seen[-1].stop == 9
