import re
from dataclasses import replace

import numpy as np
import pytest
import tiny_networks
import torch
from tiny_networks import HW, folded, frames, made
from torch import nn
from two_heads import two_heads

from calibrators.calibrate import calibrate, weight_scale
from calibrators.insert import quantised_layers
from calibrators.network_parts import head_layers
from calibrators.observers import OBSERVERS
from calibrators.quantise import quantise
from calibrators.recipe import TensorRecipe
from calibrators.recipe_files import list_recipes, load_recipe
from calibrators.sensitivity.mixed import table_layers
from calibrators.shorten import shortened
from trt_lane.errors import TrtLaneError
from trt_lane.models._folded import fold, weights_digest

MINMAX = load_recipe("int8_minmax")


@pytest.mark.parametrize("observer", OBSERVERS)
def test_the_same_recipe_gives_the_same_table(observer):
    recipe = replace(MINMAX, activations=TensorRecipe(observer), weights=TensorRecipe(observer))
    tables = [calibrate(folded("downsample"), frames(), recipe) for _ in range(2)]
    assert tables[0].digest() == tables[1].digest()


def test_other_frames_recipes_or_weights_give_another_table():
    digests = {
        calibrate(folded("chain"), frames(), MINMAX).digest(),
        calibrate(folded("chain"), frames(seed=2), MINMAX).digest(),
        calibrate(folded("chain", seed=1), frames(), MINMAX).digest(),
        calibrate(folded("chain"), frames(), replace(MINMAX, seed=5)).digest(),
    }
    assert len(digests) == 4


def test_the_table_says_of_which_weights_it_is():
    table = calibrate(folded("transformer"), frames(), MINMAX)
    assert table.digests["weights"] == weights_digest(made("transformer"))


@pytest.mark.parametrize("batch", [1, 4, 6, 50])
def test_the_batch_size_does_not_change_the_ranges(batch):
    expected = calibrate(folded("concats"), frames(), replace(MINMAX, batch=3))
    found = calibrate(folded("concats"), frames(), replace(MINMAX, batch=batch))
    for key, scale in expected.activations.items():
        # A step of FP16: convolutions add up in another order.
        assert found.activations[key].value == pytest.approx(scale.value, rel=1e-3)
    for name, largest in expected.maxima.items():
        assert found.maxima[name] == pytest.approx(largest, rel=1e-5)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_frames_that_are_not_finite_are_refused(odd):
    images = frames()
    images[2, 1, 3, 4] = odd
    with pytest.raises(TrtLaneError, match="NaN or infinity"):
        calibrate(folded("chain"), images, MINMAX)


def test_no_frames_are_refused():
    with pytest.raises(TrtLaneError, match=r"expected \(F, 3, h, w\)"):
        calibrate(folded("chain"), frames()[:0], MINMAX)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (frames(1), "there is one calibration frame"),
        (frames(1).expand(3, -1, -1, -1), "all 3 calibration frames are the same"),
        (torch.cat([frames(2), torch.full((1, 3, *HW), -1.7)]), "1 of 3 .* one colour only"),
    ],
    ids=["one", "identical", "black"],
)
@pytest.mark.parametrize("recipe", ["int8_minmax", "int8_selective_focus"])
def test_frames_that_say_little_are_named_and_still_calibrated_on(recipe, images, message):
    model, network = two_heads()
    recipe = shortened(load_recipe(recipe), 0.001)
    table = quantise(model, fold(network, HW), images.contiguous(), recipe)
    assert re.search(message, " ".join(table.info["warnings"]))
    assert all(np.isfinite(s.value).all() for s in table.activations.values())


@pytest.mark.parametrize("recipe", ["int8_selective_focus", "int8_mse"])
def test_heads_stay_in_float_where_the_recipe_says_so(recipe):
    model, network = two_heads()
    graph_module = fold(network, HW)
    own = {path for layers in head_layers(graph_module).values() for path in layers}
    recipe = shortened(load_recipe(recipe), 0.001)
    whole = quantise(model, graph_module, frames(3), recipe)
    kept = quantise(model, graph_module, frames(3), replace(recipe, heads="float"))
    assert own
    assert set(table_layers(whole)) - set(table_layers(kept)) == own
    assert set(table_layers(kept))


def test_selective_focus_runs_block_by_block():
    model, network = two_heads()
    graph_module = fold(network, HW)
    recipe = shortened(load_recipe("int8_selective_focus"), 0.01)
    learned = replace(recipe.reconstruction, unit="block")
    blockwise = quantise(model, graph_module, frames(3), replace(recipe, reconstruction=learned))
    assert blockwise.digest() != quantise(model, graph_module, frames(3), recipe).digest()
    assert table_layers(blockwise) == quantised_layers(graph_module)


def test_good_frames_are_not_warned_of():
    assert calibrate(folded("chain"), frames(), MINMAX).info["warnings"] == []


def test_weights_that_are_not_finite_are_refused_by_the_tensor_they_spoil():
    network = made("chain")
    network.conv2.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrtLaneError, match="conv2"):
        calibrate(fold(network, HW), frames(), MINMAX)


def test_nothing_to_quantise_is_an_error_to_mend():
    with pytest.raises(TrtLaneError, match="nothing to quantise"):
        calibrate(folded("chain"), frames(), MINMAX, ("conv1", "conv2"))


@pytest.mark.parametrize("observer", OBSERVERS)
def test_channels_of_zeros_and_dead_tensors_get_a_usable_step(observer):
    network = made("chain")
    network.conv2.weight.data[1] = 0
    network.bn1.weight.data[:] = 0
    network.bn1.bias.data[:] = -1  # ReLU never opens
    recipe = replace(MINMAX, activations=TensorRecipe(observer), weights=TensorRecipe(observer))
    table = calibrate(fold(network, HW), frames(), recipe)
    assert table.activations["relu"].value == pytest.approx(1 / 127, rel=1e-3)
    assert table.info["dead_tensors"] == ["relu"]
    assert not table.rounded["conv1.weight"].any()
    assert not table.rounded["conv2.weight"][1].any()
    assert table.weights["conv2.weight"].value[1] == pytest.approx(1 / 127, rel=1e-3)


def test_minmax_steps_are_the_largest_magnitudes_of_tensors_and_output_channels():
    network = made("decoder")
    graph_module = fold(network, HW)
    table = calibrate(graph_module, frames(), MINMAX)
    for name, scale in table.weights.items():
        weight = graph_module.get_parameter(name).detach().numpy()
        axis = 1 if "up" in name else 0
        assert scale.axis == axis
        largest = np.abs(weight).max(axis=tuple(i for i in range(4) if i != axis))
        np.testing.assert_allclose(scale.value, largest / 127, rtol=1e-3)
        assert np.abs(table.rounded[name]).max() == 127
    assert table.activations["image"].value * 127 == pytest.approx(
        float(frames().abs().max()), rel=1e-3
    )


def test_maxima_name_every_float_tensor_of_the_graph():
    graph_module = folded("transformer")
    table = calibrate(graph_module, frames(), MINMAX)
    expected = {n.name for n in graph_module.graph.nodes if "shape" in n.meta}
    assert table.maxima.keys() == expected


def test_tensors_of_one_key_share_the_widest_range():
    table = calibrate(folded("concats"), frames(), MINMAX)
    keys = {s.tensor: s.key for s in table.sites}
    widest = max(table.maxima[t] for t in ("relu", "relu_1", "relu_2"))
    assert table.activations[keys["cat_1"]].value * 127 == pytest.approx(widest, rel=1e-3)


def test_low_bits_of_a_tensor_with_negative_values_are_signed():
    recipe = replace(MINMAX, activations=TensorRecipe("mse", bits=4))
    activations = calibrate(folded("transformer"), frames(), recipe).activations
    assert {scale.qmax for key, scale in activations.items() if key != "image"} == {7, 15}


def test_low_bits_leave_the_edges_at_eight_and_are_only_a_simulation():
    recipe = replace(
        MINMAX, weights=TensorRecipe("mse", bits=3), activations=TensorRecipe("mse", bits=4)
    )
    assert not recipe.deployable
    table = calibrate(folded("residual"), frames(), recipe)
    assert {n: s.bits for n, s in table.weights.items()} == {
        "stem.weight": 8,
        "conv1.weight": 3,
        "conv2.weight": 3,
        "out.weight": 8,
    }
    # After a ReLU the sign bit is to spare: 16 unsigned levels are half of 5 signed bits.
    assert {k: s.qmax for k, s in table.activations.items()} == {
        "image": 127,
        "relu": 15,
        "relu_1": 15,
        "relu_2": 15,
    }
    assert table.info["simulated"]
    assert -4 <= table.rounded["conv1.weight"].min() < table.rounded["conv1.weight"].max() <= 3
    assert MINMAX.deployable
    assert not calibrate(folded("residual"), frames(), MINMAX).info["simulated"]


@pytest.mark.parametrize("bits", [8, 4])
def test_mse_steps_of_weights_are_those_of_a_search_channel_by_channel(bits):
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 5, 3)
    layer.weight.data[2, 0, 0, 0] = 3.0  # an outlier
    layer.weight.data[3] = 0
    qmax = (1 << (bits - 1)) - 1
    found = weight_scale(layer, TensorRecipe("mse", bits), bits).value
    for channel, step in zip(layer.weight.detach().numpy(), found, strict=True):
        if not channel.any():
            continue
        candidates = np.abs(channel).max() * np.arange(20, 101) / 100 / qmax

        def error(s, channel=channel):
            levels = np.clip(np.rint(channel / s), -qmax - 1, qmax)
            return (np.abs(levels * s - channel).astype(np.float64) ** 2.4).sum()

        # FP16's rounding of the step costs up to a twentieth of so small an error.
        assert error(step) <= min(map(error, candidates)) * 1.05


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_every_shipped_recipe_calibrates_every_structure(name):
    for recipe in list_recipes():
        if load_recipe(recipe).deployable and recipe.startswith("int8_m"):
            table = calibrate(folded(name), frames(2), load_recipe(recipe))
            assert table.info["recipe"] == recipe
