import pytest
import tiny_networks
import torch
import torch.nn.functional as F
from tiny_networks import HW, frames
from torch import nn

from trt_lane.models._folded import BATCH_NORMS, fold, heads_of, weighted_module, weights_digest


def filled(module, seed=0):
    """The module with batch-norm statistics that are not the neutral ones, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, BATCH_NORMS) and part.running_mean is not None:
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
            if part.affine:
                part.weight.data = torch.randn(part.num_features, generator=generator)
                part.bias.data = torch.randn(part.num_features, generator=generator)
    return module.eval()


class Heads(nn.Module):
    """A module as a network with one head."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return {"out": self.inner(x)}


def norms_of(graph_module):
    return [
        n.name
        for n in graph_module.graph.nodes
        if n.op == "call_module" and isinstance(graph_module.get_submodule(n.target), BATCH_NORMS)
    ]


def assert_same(network, graph_module, hw=HW):
    image = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, found = network(image), graph_module(image)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 6, 3, bias=False),
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.Conv2d(3, 6, 3, groups=3),
        nn.ConvTranspose2d(3, 6, 2, 2),
        nn.ConvTranspose2d(3, 6, 3, 2, 1, bias=False, groups=3),
    ],
)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_goes_into_the_layer_before_it(layer, affine):
    network = filled(Heads(nn.Sequential(layer, nn.BatchNorm2d(6, affine=affine), nn.ReLU())))
    graph_module = fold(network, HW)
    assert not norms_of(graph_module)
    assert_same(network, graph_module)


def test_depthwise_transposed_convolution_takes_its_batch_norm():
    layer = nn.ConvTranspose2d(3, 3, 4, 2, 1, groups=3, bias=False)
    network = filled(Heads(nn.Sequential(layer, nn.BatchNorm2d(3))))
    graph_module = fold(network, HW)
    assert not norms_of(graph_module)
    assert_same(network, graph_module)


def test_batch_norm_of_features_goes_into_the_linear_layer():
    network = filled(
        Heads(nn.Sequential(nn.Flatten(), nn.Linear(3 * HW[0] * HW[1], 5), nn.BatchNorm1d(5)))
    )
    graph_module = fold(network, HW)
    assert not norms_of(graph_module)
    assert_same(network, graph_module)


def test_batch_norm_over_tokens_stays_behind_the_linear_layer():
    inner = nn.Sequential(nn.Flatten(2), nn.Linear(HW[0] * HW[1], 3), nn.BatchNorm1d(3))
    network = filled(Heads(inner))
    graph_module = fold(network, HW)
    assert len(norms_of(graph_module)) == 1
    assert_same(network, graph_module)


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return {"out": self.norm(x), "raw": x}


class NormFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return {"out": self.conv(self.norm(x))}


@pytest.mark.parametrize("kind", [TwoReaders, NormFirst])
def test_batch_norm_that_cannot_be_folded_stays(kind):
    network = filled(kind())
    graph_module = fold(network, HW)
    assert norms_of(graph_module) == ["norm"]
    assert_same(network, graph_module)


def test_batch_norm_without_statistics_stays():
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    network = Heads(nn.Sequential(nn.Conv2d(3, 4, 3), norm)).eval()
    graph_module = fold(network, HW)
    assert len(norms_of(graph_module)) == 1
    assert_same(network, graph_module)


class Functional(nn.Module):
    """Layers by function, with weights that are parts and products of parameters."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.packed = nn.Parameter(torch.randn(12, 4))
        self.bias = nn.Parameter(torch.randn(12))
        self.right = nn.Parameter(torch.randn(4, 5))
        self.left = nn.Parameter(torch.randn(7, 5))
        self.gain = nn.Parameter(torch.randn(4, 1, 1, 1))
        self.register_buffer("grid", torch.arange(5.0))

    def forward(self, x):
        x = F.conv2d(x, self.kernel[:4] * self.gain, stride=2, padding=1)
        x = x.flatten(2).transpose(1, 2)
        a = F.linear(x, self.packed[4:8], self.bias[4:8])
        b = F.linear(input=a, weight=self.packed[8:], bias=None)
        c = torch.matmul(b, self.right) + self.grid.view(1, 1, self.grid.shape[0])
        return {"out": c @ self.left.t(), "turned": self.left @ c.transpose(1, 2)}


def test_functional_layers_own_the_part_of_the_weights_they_use():
    torch.manual_seed(0)
    network = Functional().eval()
    graph_module = fold(network, HW)
    assert_same(network, graph_module)
    layers = [m for m in graph_module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    shapes = sorted(tuple(layer.weight.shape) for layer in layers)
    assert shapes == [(4, 3, 3, 3), (4, 4), (4, 4), (5, 4), (7, 5)]
    used = {n.target for n in graph_module.graph.nodes if n.op == "call_function"}
    assert F.linear not in used
    assert torch.conv2d not in used


class ComputedBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, HW[1]))

    def forward(self, x):
        return {"out": F.linear(x, self.weight, x.mean((0, 1, 2))[:4])}


def test_a_functional_layer_with_a_computed_bias_stays_as_it_is():
    network = ComputedBias().eval()
    graph_module = fold(network, HW)
    with torch.no_grad():
        image = torch.randn(1, 3, *HW)
        torch.testing.assert_close(graph_module(image)["out"], network(image)["out"])


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_folding_changes_neither_the_numbers_nor_the_module(name):
    network = tiny_networks.made(name)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        expected = network(frames(2))
        graph_module = fold(network, HW)
        for node in graph_module.graph.nodes:  # whoever changes folded weights, reaches no module
            layer = weighted_module(graph_module, node)
            if layer is not None:
                layer.weight.mul_(3)
        found = network(frames(2))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert_same(network, fold(network, HW))


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_every_float_tensor_has_its_shape_and_names_are_the_same_each_time(name):
    graph_module = tiny_networks.folded(name)
    heads = heads_of(graph_module)
    with torch.no_grad():
        expected = tiny_networks.made(name)(frames(1))
    assert {k: n.meta["shape"] for k, n in heads.items()} == {
        k: tuple(v.shape) for k, v in expected.items()
    }
    again = tiny_networks.folded(name)
    assert [n.name for n in graph_module.graph.nodes] == [n.name for n in again.graph.nodes]
    assert next(iter(graph_module.graph.nodes)).name == "image"


def test_dropout_and_identity_disappear():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drop, self.same = nn.Conv2d(3, 3, 1), nn.Dropout(), nn.Identity()

        def forward(self, x):
            return {
                "out": self.same(F.dropout(self.drop(self.conv(x)), training=False)).contiguous()
            }

    graph_module = fold(Net(), HW)
    assert [n.name for n in graph_module.graph.nodes] == ["image", "conv", "output"]
    assert weighted_module(graph_module, heads_of(graph_module)["out"]) is not None


def test_the_digest_is_of_the_weights_and_of_nothing_else():
    network = tiny_networks.made("transformer")
    digest = fold(network, HW).meta["weights"]
    assert digest == weights_digest(tiny_networks.made("transformer"))
    for name in ("packed", "position", "norm.bias", "down.weight"):
        changed = tiny_networks.made("transformer")
        changed.get_parameter(name).data.flatten()[0] += 1e-3
        assert fold(changed, HW).meta["weights"] != digest, name


def test_the_digest_does_not_tell_how_often_batch_norm_was_trained():
    network = tiny_networks.made("chain")
    digest = weights_digest(network)
    network.bn1.num_batches_tracked += 5
    assert weights_digest(network) == digest
    network.bn1.running_mean += 1e-3
    assert weights_digest(network) != digest
