"""Learned roundings and steps: AdaRound's and LSQ's formulas."""

import math

import numpy as np
import pytest
import torch

from calibrators.learned import (
    LearnedActivation,
    LearnedRounding,
    annealed_beta,
    annealed_temperature,
)
from trt_lane.scales import Scale


def make_rounding(bits=8):
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    step = (weight.abs().amax((1, 2, 3)) / ((1 << (bits - 1)) - 1)).numpy()
    return weight, LearnedRounding(weight, Scale(step, 0, bits))


def test_first_forward_is_the_float_weight():
    weight, rounding = make_rounding()
    assert torch.allclose(rounding(weight), weight, atol=1e-6)


def test_hardened_weight_is_one_of_the_two_neighbours():
    weight, rounding = make_rounding(4)
    rounding.v.data = torch.randn_like(rounding.v)
    rounding.hard = True
    up = torch.ceil(weight / rounding.step - 1e-6).clamp(-8, 7)
    down = torch.floor(weight / rounding.step).clamp(-8, 7)
    level = torch.round(rounding(weight) / rounding.step)
    free = down < up  # an element on the grid has one neighbour above it
    assert torch.equal(level[free], torch.where(rounding.v >= 0, up, down)[free])


def test_levels_are_what_the_hard_forward_uses():
    weight, rounding = make_rounding(4)
    rounding.v.data = torch.randn_like(rounding.v)
    rounding.hard = True
    levels = rounding.levels()
    assert levels.dtype == np.int8 and levels.min() >= -8 and levels.max() <= 7
    assert torch.equal(torch.from_numpy(levels).float() * rounding.step, rounding(weight))


def test_untouched_rounding_hardens_to_nearest():
    weight, rounding = make_rounding()
    nearest = torch.round(weight / rounding.step).clamp(-128, 127)
    assert np.array_equal(rounding.levels(), nearest.numpy())


def test_gradient_of_the_rounding_variable_matches_finite_differences():
    weight, rounding = make_rounding(4)
    rounding = rounding.double()
    target = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).double()

    def loss():
        return ((rounding(weight) - target) ** 2).sum() + 0.1 * rounding.regulariser(4.0)

    loss().backward()
    smooth = torch.nonzero((rounding.h() > 0.05) & (rounding.h() < 0.95))  # off the clip's kinks
    for index in map(tuple, smooth[::20].tolist()):
        with torch.no_grad():
            rounding.v[index] += 1e-5
            above = loss()
            rounding.v[index] -= 2e-5
            below = loss()
            rounding.v[index] += 1e-5
        slope = float(above - below) / 2e-5
        assert rounding.v.grad[index] == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_regulariser_is_zero_only_when_every_element_is_decided():
    _, rounding = make_rounding()
    assert rounding.regulariser(2.0) > 0
    rounding.v.data = torch.where(rounding.v >= 0, 20.0, -20.0)
    assert rounding.regulariser(2.0) == 0


def test_beta_waits_and_then_falls_from_20_to_2():
    assert annealed_beta(0, 100) is None and annealed_beta(19, 100) is None
    assert annealed_beta(20, 100) == 20
    assert annealed_beta(60, 100) == pytest.approx(11)
    assert annealed_beta(100, 100) == pytest.approx(2)


def test_gradient_of_the_step_is_lsqs():
    quantizer = LearnedActivation(Scale(np.float32(0.5)))
    x = torch.tensor([0.3, -1.1, 100.0, -100.0])
    quantizer(x).sum().backward()
    q_minus = [1 - 0.6, -2 + 2.2, 127.0, -128.0]  # round(x/s) - x/s inside, the bound outside
    assert quantizer.log_step.grad == pytest.approx(0.5 * sum(q_minus), rel=1e-4)  # d/d log s


def test_dropped_elements_stay_float_and_the_others_are_on_the_grid():
    torch.manual_seed(0)
    quantizer = LearnedActivation(Scale(np.float32(0.5)), drop=0.5)
    x = torch.rand(10000) * 10 + 0.01
    out = quantizer(x).detach()
    kept = out == x
    assert 0.45 < kept.float().mean() < 0.55
    assert torch.allclose(out[~kept] / 0.5, torch.round(x[~kept] / 0.5))


def test_drop_of_one_is_float():
    x = torch.randn(7)
    assert torch.equal(LearnedActivation(Scale(np.float32(0.5)), drop=1.0)(x), x)


def test_learned_step_becomes_a_scale_that_fp16_holds():
    quantizer = LearnedActivation(Scale(np.float32(0.1)))
    quantizer.log_step.data = torch.tensor(math.log(0.0123456))
    value = quantizer.scale().value
    assert value == np.float16(value) and value == pytest.approx(0.0123456, rel=1e-3)


def test_a_cold_rounding_is_what_hardening_makes_of_it():
    weight, rounding = make_rounding(4)
    rounding.v.data = torch.randn_like(rounding.v).where(rounding.v.abs() < 9, rounding.v)
    rounding.temperature = 1e-3
    cold = rounding(weight)
    rounding.hard = True
    assert torch.allclose(cold, rounding(weight), atol=float(rounding.step.max()) * 0.02)
    rounding.hard, rounding.temperature = False, 1.0
    assert not torch.allclose(rounding(weight), cold, atol=float(rounding.step.max()) * 0.2)


def test_the_temperature_waits_and_then_falls_to_its_last():
    temperatures = [annealed_temperature(step, 100, 0.02) for step in range(100)]
    assert temperatures[:21] == [1.0] * 21
    assert temperatures[90:] == pytest.approx([0.02] * 10)
    assert all(np.diff(temperatures[20:91]) < 0)
    assert {annealed_temperature(step, 100, 1.0) for step in range(100)} == {1.0}
