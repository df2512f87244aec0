import numpy as np
import pytest
import tiny_networks
import torch
import torch.nn.functional as F
from tiny_networks import HW, conv, folded, frames
from torch import nn

from calibrators.channels import FIXED, channels_of
from trt_lane.model import get_model, list_families, list_models
from trt_lane.models._equalised import equalised
from trt_lane.models._folded import fold
from trt_lane.scales import Equalisation


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def at_random(channels, seed=0):
    """A power of two for every class that is free."""
    factors = np.exp2(np.random.default_rng(seed).integers(-3, 7, channels.count))
    factors = factors.astype(np.float32)
    factors[FIXED] = 1
    kinds = (channels.outputs, channels.inputs)
    return Equalisation(*({path: factors[ids] for path, ids in k.items()} for k in kinds))


def assert_unchanged(graph_module, images):
    changed = equalised(graph_module, at_random(channels_of(graph_module)))
    with torch.no_grad():
        found, expected = changed(images), graph_module(images)
    for head, value in expected.items():
        # Powers of two change no bit, whatever the order of the sums.
        torch.testing.assert_close(found[head], value, rtol=0, atol=0)


class Mixed(nn.Module):
    """Batch norms that stay, PReLU, pools, grouped layers, parts of tensors, numbers."""

    def __init__(self):
        super().__init__()
        self.stem, self.act = conv(3, 8), nn.PReLU(8)
        self.wide = nn.Conv2d(8, 8, 3, 1, 2, 2, groups=4)
        self.norm, self.norm2 = nn.BatchNorm2d(19), nn.BatchNorm2d(16)
        self.pool = nn.AvgPool2d(3, 1, 1)
        self.left, self.right = conv(19, 6), conv(6, 6)
        self.both = conv(19, 16)
        self.up = nn.ConvTranspose2d(16, 6, 3, 1, 1, groups=2)
        self.out, self.gate = conv(12, 2), conv(6, 6, 1)
        self.tokens = nn.Linear(6, 3)

    def forward(self, x):
        stem = self.act(self.stem(x))
        x = torch.cat([stem * 0.5, self.wide(stem), self.pool(x)], 1)
        x = F.leaky_relu(self.norm(x), 0.1)
        left, right = self.right(F.relu(self.left(x))), self.up(self.norm2(self.both(x)).relu())
        y = torch.cat([left - right, F.relu6(self.gate(right))], dim=1)
        first, second = y.chunk(2, 1)
        tokens = (left / 3).flatten(2).permute(0, 2, 1)
        return {"out": self.out(torch.cat([second, first], 1)), "tokens": self.tokens(tokens)}


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_factors_of_the_classes_change_no_bit_of_a_network(name):
    assert_unchanged(folded(name), frames(2))


def test_factors_change_no_bit_of_a_network_of_many_kinds():
    torch.manual_seed(0)
    network = Mixed()
    for norm in (network.norm, network.norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    graph_module = fold(network, HW)
    channels = channels_of(graph_module)
    for path in ("wide", "norm", "left", "both", "right", "up", "tokens"):
        assert (channels.inputs[path] != FIXED).any(), path
    assert (channels.outputs["gate"] == FIXED).all()  # relu6 has a place where it clips
    assert_unchanged(graph_module, frames(2))


def test_what_a_layer_puts_out_and_the_next_reads_is_one_class_each():
    channels = channels_of(folded("chain"))
    assert channels.inputs["conv2"].tolist() == channels.outputs["conv1"].tolist()
    assert len(set(channels.inputs["conv2"].tolist()) - {FIXED}) == 6
    assert set(channels.inputs["conv1"].tolist()) == {FIXED}  # the image
    assert set(channels.outputs["conv2"].tolist()) == {FIXED}  # a head


def test_a_residual_stream_has_one_class_per_channel():
    channels = channels_of(folded("residual"))
    stream = channels.outputs["stem"].tolist()
    assert stream == channels.outputs["conv2"].tolist() == channels.inputs["out"].tolist()
    assert not set(stream) & set(channels.outputs["conv1"].tolist())


def test_a_flattened_channel_is_one_class_at_all_its_places():
    channels = channels_of(folded("flat"))
    assert channels.inputs["fc1"].tolist() == np.repeat(channels.outputs["stem"], 24).tolist()


def test_equalising_leaves_the_network_that_is_given_alone():
    graph_module = folded("residual")
    before = {k: v.clone() for k, v in graph_module.state_dict().items()}
    changed = equalised(graph_module, at_random(channels_of(graph_module)))
    for name, value in graph_module.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(changed.conv1.weight, graph_module.conv1.weight)
    assert equalised(graph_module, Equalisation()) is graph_module


@pytest.mark.slow
@pytest.mark.parametrize("family", list_families())
def test_factors_change_no_bit_of_any_family(family):
    torch.manual_seed(0)
    model = get_model(next(n for n in list_models() if n.partition(".")[0] == family))
    graph_module = fold(model.build(), model.image.input_hw)
    channels = channels_of(graph_module)
    assert sum((ids != FIXED).any() for ids in channels.inputs.values()) >= 4
    assert_unchanged(graph_module, torch.randn(1, 3, *model.image.input_hw))
