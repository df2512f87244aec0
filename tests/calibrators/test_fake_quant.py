import numpy as np
import pytest
import torch
from tiny_networks import folded, frames

from calibrators.calibrate import calibrate
from calibrators.fake_quant import (
    ActivationQuantizer,
    fake_quantize,
    quantised_network,
    round_straight_through,
    round_to_levels,
)
from calibrators.recipe_files import load_recipe
from trt_lane.scales import Scale


def test_levels_are_rounded_half_to_even_and_clipped_at_both_ends():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49, 1e9, -1e9, 127.4, -128.4, -127.5])
    expected = [0, 2, 2, 0, -2, -2, 0, 127, -128, 127, -128, -128]
    for step in (1.0, 0.25, 2.0**-10):
        found = fake_quantize(x * step, torch.tensor(step), -128, 127)
        assert (found / step).tolist() == expected


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_results_are_numpys_to_the_bit(bits):
    scale = Scale(0.0371, None, bits)
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 2
    levels = np.clip(np.rint(x.numpy() / scale.value), scale.qmin, scale.qmax)
    found = ActivationQuantizer(scale)(x)
    np.testing.assert_array_equal(found.numpy(), levels.astype(np.float32) * scale.value)
    assert len(np.unique(levels)) == 1 << bits


def test_rounding_passes_the_gradient_as_if_nothing_happened():
    x = (torch.randn(1000) * 100).requires_grad_()
    rounded = round_straight_through(x)
    assert torch.equal(rounded, torch.round(x))
    rounded.sum().backward()
    assert torch.equal(x.grad, torch.ones(1000))


def test_the_gradient_of_the_input_is_one_inside_and_zero_outside():
    x = torch.tensor([0.3, 126.9, 127.6, 500.0, -127.9, -128.6, -500.0], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), -128, 127).sum().backward()
    assert x.grad.tolist() == [1, 1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_gradient_of_the_step_is_lsqs(bits):
    scale = Scale(0.05, None, bits)
    x = torch.randn(2000, generator=torch.Generator().manual_seed(bits)) * scale.qmax * 0.05
    step = torch.tensor(0.05, requires_grad=True)
    weights = torch.randn(2000, generator=torch.Generator().manual_seed(9))
    (fake_quantize(x, step, scale.qmin, scale.qmax) * weights).sum().backward()
    v = x.double() / 0.05
    q = torch.round(v)
    inside = (q >= scale.qmin) & (q <= scale.qmax)
    expected = torch.where(inside, q - v, q.clamp(scale.qmin, scale.qmax))
    assert (~inside).any()
    assert float(step.grad) == pytest.approx(float((expected * weights).sum()), rel=1e-3)


def test_the_steps_gradient_is_the_slope_where_every_level_stays():
    # With all levels fixed x -> q * step is smooth: outside the range finite differences hold.
    x = torch.tensor([5.0, -7.0, 9.0])
    step = torch.tensor(0.01, requires_grad=True)
    fake_quantize(x, step, -128, 127).sum().backward()
    with torch.no_grad():
        up, down = (
            fake_quantize(x, torch.tensor(0.01 + d), -128, 127).sum() for d in (1e-4, -1e-4)
        )
    assert float(step.grad) == pytest.approx(float(up - down) / 2e-4, rel=1e-3)
    assert float(step.grad) == pytest.approx(127 - 128 + 127)


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_are_rounded_along_their_axis(axis):
    weight = torch.randn(4, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    steps = np.linspace(0.01, 0.05, weight.shape[axis]).astype(np.float32)
    levels = round_to_levels(weight, Scale(steps, axis))
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    expected = np.clip(np.rint(weight.numpy() / steps.reshape(shape)), -128, 127)
    assert levels.dtype == np.int8
    np.testing.assert_array_equal(levels, expected)


@pytest.mark.parametrize(
    "name", ["chain", "downsample", "concats", "shared", "transformer", "decoder", "flat"]
)
def test_the_quantised_network_is_close_to_the_float_one_and_leaves_it_alone(name):
    graph_module = folded(name)
    before = {k: v.clone() for k, v in graph_module.state_dict().items()}
    table = calibrate(graph_module, frames(), load_recipe("int8_minmax"))
    network = quantised_network(graph_module, table)
    with torch.no_grad():
        expected, found = graph_module(frames()), network(frames())
    for head, value in expected.items():
        error = (found[head] - value).square().mean() / value.square().mean()
        assert 0 < error < 2e-3, head
    after = graph_module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_quantised_network_holds_the_tables_levels():
    graph_module = folded("decoder")
    table = calibrate(graph_module, frames(), load_recipe("int8_minmax"))
    table.rounded["up.weight"][:] = 3
    network = quantised_network(graph_module, table)
    expected = 3 * torch.from_numpy(table.weights["up.weight"].value).reshape(1, -1, 1, 1)
    weight = network.get_submodule("up").weight
    assert torch.equal(weight, expected.expand_as(weight))
