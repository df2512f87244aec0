from dataclasses import replace

import numpy as np
import pytest
import tiny_networks
import torch
from tiny_networks import HW, described, folded, frames, made
from two_heads import two_heads

from calibrators.calibrate import calibrate
from calibrators.channels import FIXED, channels_of
from calibrators.equalise import LARGEST, LIMIT, find_equalisation
from calibrators.fake_quant import quantised_network
from calibrators.losses import UnitLoss
from calibrators.quantise import EQUALISED_SHARE, quantise
from calibrators.recipe import ReconstructionRecipe
from calibrators.recipe_files import list_recipes, load_recipe
from calibrators.reconstruct import reconstruct
from calibrators.sensitivity.mixed import table_layers, without_layers
from calibrators.sensitivity.variants import FLOAT, FULL, Variants
from engines.export import export
from engines.graph_runner import GraphRunner
from engines.lint import lint
from trt_lane.errors import TrtLaneError
from trt_lane.models._checkpoint import load_weights
from trt_lane.models._equalised import equalised
from trt_lane.models._folded import fold
from trt_lane.scales import Equalisation, ScaleTable

MINMAX = load_recipe("int8_minmax")
EQUALISED = replace(MINMAX, equalise=True)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def uneven(name, seed=0):
    """A tiny network whose layers put out channels of very different sizes."""
    network = made(name, seed)
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            shape = [-1] + [1] * (module.weight.ndim - 1)
            sizes = torch.exp2(4 * torch.rand(len(module.weight), generator=generator) - 2)
            module.weight.data *= sizes.view(shape)
    return network


def error(found, expected):
    return sum(
        float((found[k] - expected[k]).square().mean() / expected[k].square().mean())
        for k in expected
    )


def heads(network, images):
    with torch.no_grad():
        return network(images)


def ruined():
    """conv2 reads one loud channel with small weights: the others drown in its step."""
    network = made("residual")
    with torch.no_grad():
        network.conv1.weight[0] *= 200
        network.conv2.weight[:, 0] /= 200
    return network


def test_a_loud_channel_no_longer_drowns_the_others():
    graph_module = fold(ruined(), HW)
    expected = heads(graph_module, frames(4))
    plain, better = (calibrate(graph_module, frames(), r) for r in (MINMAX, EQUALISED))
    assert not plain.equalised
    factors = better.equalised.outputs["conv1"]
    assert factors[0] == 1 and (factors[1:] >= 8).all()
    np.testing.assert_array_equal(better.equalised.inputs["conv2"], factors)
    before, after = (
        error(heads(quantised_network(graph_module, t), frames(4)), expected)
        for t in (plain, better)
    )
    assert after < 0.1 * before


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_the_float_network_is_the_same_and_the_error_no_larger(name):
    graph_module = fold(uneven(name), HW)
    images, unseen = frames(16), frames(8, seed=9)
    plain, better = (calibrate(graph_module, images, r) for r in (MINMAX, EQUALISED))
    expected = heads(graph_module, unseen)
    changed = heads(equalised(graph_module, better.equalised), unseen)
    assert all(torch.equal(changed[k], expected[k]) for k in expected)
    before, after = (
        error(heads(quantised_network(graph_module, t), unseen), expected) for t in (plain, better)
    )
    # What gains at every layer may still lose a little at the heads.
    assert after < 1.3 * before


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_the_exported_graph_is_the_fake_quantised_network(tmp_path, name):
    network = uneven(name)
    graph_module = fold(network, HW)
    table = calibrate(graph_module, frames(), EQUALISED)
    table.save(tmp_path / "scales.npz")
    table = ScaleTable.load(tmp_path / "scales.npz")
    layers = table_layers(table)
    for kept in ((), layers[::2], layers[1::2]):
        mixed = without_layers(table, graph_module, kept)
        exported = export(described(network), network, mixed, tmp_path / "m.onnx")
        assert lint(exported) == []
        simulated = heads(quantised_network(graph_module, mixed), frames(2))
        runner = GraphRunner(tmp_path / "m.onnx", 1)
        rows = [runner(image[None].numpy()) for image in frames(2)]
        found = {k: torch.from_numpy(np.concatenate([row[k] for row in rows])) for k in rows[0]}
        # A level on the edge between two, after sums in another order, may fall to either side.
        assert error(found, simulated) < 1e-5 * len(found)


def test_forms_of_sensitivity_are_of_the_equalised_network():
    graph_module = fold(ruined(), HW)
    table = calibrate(graph_module, frames(), EQUALISED)
    mixed = {"m": without_layers(table, graph_module, ["conv1"])}
    expected = {"m": quantised_network(graph_module, mixed["m"]), FLOAT: graph_module}
    expected[FULL] = quantised_network(graph_module, table)
    for _, found in Variants(graph_module, table).runs(mixed, frames(2)):
        for form, network in expected.items():
            np.testing.assert_allclose(
                found[form]["out"], heads(network, frames(2))["out"], rtol=0, atol=1e-6
            )


@pytest.mark.parametrize("unit", ["block", "network"])
def test_reconstruction_learns_what_the_equalised_network_gives(tmp_path, unit):
    network = ruined()
    graph_module, model = fold(network, HW), described(network)
    learning = ReconstructionRecipe(unit=unit, steps=60, learn_biases=True, lr_steps=1e-2)
    start = calibrate(graph_module, frames(), EQUALISED)
    learned = reconstruct(graph_module, start, frames(), learning, UnitLoss())
    assert learned.equalised is start.equalised
    expected = heads(graph_module, frames())
    before, after = (
        error(heads(quantised_network(graph_module, t), frames()), expected)
        for t in (start, learned)
    )
    # Targets without the factors would be off by all of them.
    assert after < 1.1 * before
    export(model, network, learned, tmp_path / "m.onnx")
    simulated = heads(quantised_network(graph_module, learned), frames(1))
    found = GraphRunner(tmp_path / "m.onnx", 1)(frames(1).numpy())
    assert error({"out": torch.from_numpy(found["out"])}, simulated) < 1e-5


def test_the_equalised_table_is_kept_only_where_lanes_move_clearly_less(monkeypatch):
    model, network = two_heads()
    graph_module = fold(network, model.image.input_hw)
    images = torch.randn(8, 3, *model.image.input_hw, generator=torch.Generator().manual_seed(1))
    kept = quantise(model, graph_module, images, EQUALISED)
    facts = kept.info["equalised"]
    better = facts["distortion_px"] <= EQUALISED_SHARE * facts["plain_distortion_px"]
    assert bool(kept.equalised) == better == bool(facts["layers"])
    channels = channels_of(graph_module)
    wild = np.exp2(np.random.default_rng(0).integers(-8, 9, channels.count)).astype(np.float32)
    wild[FIXED] = 1
    kinds = (channels.outputs, channels.inputs)
    worse = Equalisation(*({path: wild[ids] for path, ids in kind.items()} for kind in kinds))
    monkeypatch.setattr("calibrators.calibrate.find_equalisation", lambda *_: worse)
    kept = quantise(model, graph_module, images, EQUALISED)
    assert not kept.equalised
    assert kept.info["equalised"]["layers"] == 0


def test_dead_channels_are_left_alone():
    network = ruined()
    with torch.no_grad():
        network.conv1.weight[3], network.conv1.bias[3] = 0, -1
    table = calibrate(fold(network, HW), frames(), EQUALISED)
    factors = table.equalised.outputs["conv1"]
    assert factors[3] == 1 and factors[1] > 1


def test_factors_have_a_limit_and_leave_room_in_fp16():
    network = ruined()
    with torch.no_grad():
        network.conv1.weight[0] *= 1e5
        network.conv1.weight[1] *= 800
    table = calibrate(fold(network, HW), frames(), EQUALISED)
    factors = table.equalised.outputs["conv1"]
    assert 1 < factors[1] < LIMIT == factors[2:].max()
    seen = calibrate(fold(network, HW), frames(), MINMAX).maxima
    assert seen["conv1"] > LARGEST  # the loud channel, which is left as it is
    assert table.maxima["conv1"] == pytest.approx(seen["conv1"])


def test_a_network_whose_channels_are_alike_is_left_alone():
    network = made("chain")
    with torch.no_grad():
        for parameter in (network.bn1.weight, network.bn1.running_var):
            parameter.fill_(1)
        network.conv1.weight[:] = network.conv1.weight[:1]
        network.bn1.bias.fill_(0.5)
        network.bn1.running_mean.fill_(0)
    assert not find_equalisation(fold(network, HW), frames(), EQUALISED)


def test_the_same_recipe_gives_the_same_factors():
    tables = [calibrate(fold(uneven("downsample"), HW), frames(), EQUALISED) for _ in range(2)]
    assert tables[0].digest() == tables[1].digest()
    assert tables[0].equalised


def test_one_frame_is_enough():
    assert calibrate(folded("flat"), frames(1), EQUALISED).weights


def test_only_the_default_recipe_equalises():
    assert [n for n in list_recipes() if load_recipe(n).equalise] == ["int8_selective_focus"]


def test_factors_of_another_network_are_refused(tmp_path):
    network = ruined()
    table = calibrate(fold(network, HW), frames(), EQUALISED)
    for odd in ({"nowhere": np.ones(6, np.float32)}, {"conv1": np.ones(5, np.float32)}):
        strange = replace(table, equalised=replace(table.equalised, outputs=odd))
        with pytest.raises(TrtLaneError, match="another network"):
            export(described(network), network, strange, tmp_path / "m.onnx")


@pytest.mark.slow
def test_real_weights_agree_between_torch_and_the_file_and_gain(tmp_path, shared):
    from calibrators.frames import calibration_frames
    from trt_lane.model import get_model

    model = get_model("lstr.tusimple")
    network = model.build()
    load_weights(model, network, shared / "weights" / "lstr_tusimple.pkl")
    graph_module = fold(network, model.image.input_hw)
    images = calibration_frames(f"tusimple:{shared / 'data' / 'tusimple'}", model.image, 17)
    expected = heads(graph_module, images)
    errors = {}
    for recipe in (MINMAX, EQUALISED):
        table = calibrate(graph_module, images, recipe)
        simulated = heads(quantised_network(graph_module, table), images)
        errors[recipe.equalise] = error(simulated, expected)
    assert errors[True] < 0.9 * errors[False]
    assert error(heads(equalised(graph_module, table.equalised), images), expected) == 0
    kept = without_layers(table, graph_module, table_layers(table)[-12::2])
    for mixed in (table, kept):
        simulated = heads(quantised_network(graph_module, mixed), images[:3])
        for float_type in ("fp32", "fp16"):
            exported = export(model, network, mixed, tmp_path / "m.onnx", float_type)
            assert lint(exported) == []
            runner = GraphRunner(tmp_path / "m.onnx", 1)
            rows = [runner(image[None].numpy()) for image in images[:3]]
            for head, value in simulated.items():
                found = torch.from_numpy(np.concatenate([row[head] for row in rows]))
                limit = error({head: value}, {head: expected[head][:3]})
                # Independent roundings put two forms as far apart as twice either's error.
                assert error({head: found}, {head: value}) <= 2 * limit, (float_type, head)
