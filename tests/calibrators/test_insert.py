import pytest
import tiny_networks
import torch
from tiny_networks import HW, ConstantConcat, folded, frames
from torch import nn

from calibrators.insert import insert_sites, quantisation_sites, quantised_layers, root_of
from trt_lane.errors import TrtLaneError
from trt_lane.models._folded import fold


def sites_of(name, float_layers=()):
    return {s.tensor: (set(s.users), s.key) for s in quantisation_sites(folded(name), float_layers)}


def test_a_chain_is_quantised_in_front_of_every_layer_only():
    assert sites_of("chain") == {"image": ({"conv1"}, "image"), "relu": ({"conv2"}, "relu")}


@pytest.mark.parametrize("name", ["residual", "residual in place"])
def test_at_a_residual_add_only_the_identity_is_quantised(name):
    assert sites_of(name) == {
        "image": ({"stem"}, "image"),
        "relu": ({"conv1", "add"}, "relu"),
        "relu_1": ({"conv2"}, "relu_1"),
        "relu_2": ({"out"}, "relu_2"),
    }


def test_at_a_downsampling_add_the_shortcut_is_quantised_and_the_long_branch_fuses():
    sites = sites_of("downsample")
    assert sites["down"] == ({"add"}, "down")
    assert sites["relu"] == ({"conv1", "down"}, "relu")
    assert "conv2" not in sites


def test_operands_of_nested_concats_share_one_scale_through_pool_and_views():
    sites = sites_of("concats")
    assert sites["image"][0] == {"a", "b", "c"}
    keys = {sites[t][1] for t in ("relu", "pool", "unflatten", "cat", "cat_1")}
    assert len(keys) == 1
    assert sites["relu"][0] == {"cat"}
    assert sites["pool"][0] == {"cat"}
    assert sites["cat"][0] == {"cat_1"}
    assert sites["unflatten"][0] == {"cat_1"}
    assert sites["cat_1"][0] == {"out"}
    assert len(sites) == 6


def test_a_concat_with_a_constant_keeps_its_operands_in_float():
    graph_module = fold(ConstantConcat().eval(), HW)
    sites = {s.tensor: s.users for s in quantisation_sites(graph_module)}
    assert sites == {"image": ("stem",), "cat": ("out",)}


def test_a_concat_that_nothing_quantised_reads_stays_in_float():
    assert set(sites_of("concats", ("out",))) == {"image"}


def test_heads_are_not_quantised_but_what_other_layers_read_of_them_is():
    sites = sites_of("heads")
    assert sites == {
        "image": ({"stem"}, "image"),
        "relu": ({"first"}, "relu"),
        "relu_1": ({"second"}, "relu_1"),
    }


def test_a_layer_that_is_called_twice_is_quantised_at_both_places():
    sites = sites_of("shared")
    assert sites["relu"][0] == {"twice"}
    assert sites["relu_1"][0] == {"twice_1"}
    assert sites["relu_2"][0] == {"out"}
    assert quantised_layers(folded("shared")) == ["stem", "twice", "out"]


def test_float_layers_and_what_is_below_them_are_left_out():
    graph_module = folded("residual")
    assert quantised_layers(graph_module, ("conv1", "stem")) == ["conv2", "out"]
    sites = sites_of("residual", ("conv1", "stem"))
    assert "image" not in sites
    assert sites["relu"][0] == {"add"}  # conv2 is still fused with the add
    # With the long branch in float nothing fuses with the add, and the identity stays float too.
    assert set(sites_of("residual", ("conv2",))) == {"image", "relu", "relu_2"}
    assert sites_of("residual", ("conv2",))["relu"][0] == {"conv1"}


@pytest.mark.parametrize(
    ("path", "nearest"),
    [("conv", "conv"), ("conv3", "conv"), ("ot", "out"), ("", ""), ("relu", "")],
)
def test_a_float_layer_that_is_none_is_refused_with_the_nearest(path, nearest):
    with pytest.raises(
        TrtLaneError, match=f"float layer '{path}' is no layer.*: {nearest}"
    ) as told:
        quantised_layers(folded("residual"), ("conv1", path))
    assert "\n" not in str(told.value)


def test_an_addition_of_two_tensors_that_are_no_convolutions_stays_in_float():
    assert set(sites_of("plain add")) == {"image"}


def test_attention_is_quantised_at_its_projections_only():
    graph_module = folded("transformer")
    layers = quantised_layers(graph_module)
    assert len(layers) == 8  # stem, q, k, v, project, up, down, last
    sites = {s.tensor: set(s.users) for s in quantisation_sites(graph_module)}
    users = set().union(*sites.values())
    assert len(users) == 8
    assert not any(name.startswith("softmax") for name in sites)
    assert "add" in sites  # the tokens with their positions
    assert len(sites["add"]) == 3


def test_depthwise_and_transposed_layers_are_quantised():
    assert quantised_layers(folded("decoder")) == ["stem", "depthwise", "up", "grouped_up", "out"]
    sites = sites_of("decoder")
    assert sites["interpolate"] == ({"out"}, "interpolate")


def test_pool_and_flatten_pass_on_the_key_of_what_they_read():
    graph_module = folded("flat")
    sites = {s.tensor: s for s in quantisation_sites(graph_module)}
    assert sites["flatten"].users == ("fc1",)
    assert sites["flatten"].key == "relu"
    nodes = {n.name: n for n in graph_module.graph.nodes}
    assert root_of(graph_module, nodes["flatten"]).name == "relu"
    assert root_of(graph_module, nodes["unflatten"]).name == "fc2"


class SameOperand(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        x = self.a(x)
        x = x + x
        return {"out": self.b(torch.cat((x, x), dim=1))}


def test_a_tensor_that_is_both_operands_is_quantised_once():
    graph_module = fold(SameOperand().eval(), HW)
    sites = quantisation_sites(graph_module)
    assert [(s.tensor, s.users) for s in sites] == [
        ("image", ("a",)),
        ("add", ("cat",)),
        ("cat", ("b",)),
    ]
    seen = insert_sites(graph_module, sites, lambda _: nn.Identity())
    with torch.no_grad():
        torch.testing.assert_close(seen(frames(1)), graph_module(frames(1)))


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_a_module_on_every_site_is_called_and_identities_change_nothing(name):
    graph_module = folded(name)
    sites = quantisation_sites(graph_module)
    calls = []

    class Seen(nn.Module):
        def __init__(self, site):
            super().__init__()
            self.key = site.key

        def forward(self, x):
            calls.append(self.key)
            return x

    before = str(graph_module.graph)
    network = insert_sites(graph_module, sites, Seen)
    assert str(graph_module.graph) == before
    with torch.no_grad():
        found, expected = network(frames(1)), graph_module(frames(1))
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert sorted(calls) == sorted(s.key for s in sites)
    assert len({s.tensor for s in sites}) == len(sites)
