"""Selective Focus on made-up heads: what is weighed, and which heads are chosen."""

import numpy as np
import pytest
import torch

from calibrators.confidence import confidence_map, on_grid
from calibrators.losses import FocusLoss
from calibrators.recipe import ReconstructionRecipe
from calibrators.selective_focus import (
    SensitivityCurve,
    channel_power,
    channel_slope,
    focused_error,
    inter_head_sensitivity,
    semantic_guided_focus,
    sensitivity_aware_selection,
)
from trt_lane.lanes import LaneSet
from trt_lane.model import Activation, Confidence, Head

LOGITS = Confidence("cls", Activation.SOFTMAX, axis=1, classes=(1,), threshold=0.5)
CLS = Head("cls", (6, 2), "class logits", LOGITS, (0,))
XS = Head("xs", (6, 3), "offsets", LOGITS, (0,), channel_axis=1)


def make_heads(frames=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cls = torch.zeros(frames, 6, 2)
    cls[:, :2, 1] = 8.0  # two sure lanes
    cls[:, 2:, 1] = -8.0
    xs = torch.randn(frames, 6, 3, generator=generator) * torch.tensor([1.0, 100.0, 0.01])
    return {"cls": cls, "xs": xs}


def decode(cls, xs):
    """Vertical lanes at 50 + 10 * (first offset), where the class says lane."""
    rows = np.arange(100, 0, -10, dtype=np.float32)
    found = [50 + 10 * x[0] for c, x in zip(cls, xs, strict=True) if c[1] > c[0]]
    lanes = [np.stack([np.full_like(rows, x), rows], 1) for x in found]
    return LaneSet.from_lanes(lanes, (100, 300))


def test_soft_focus_is_the_confidence_on_the_grid_of_the_head():
    heads = make_heads()
    weight = semantic_guided_focus(XS, heads, heads, "soft")
    assert weight.shape == (4, 6, 1)
    assert torch.all(weight[:, :2] > 0.99) and torch.all(weight[:, 2:] < 0.01)


def test_focus_ignores_errors_of_the_background():
    heads = make_heads()
    weight = semantic_guided_focus(XS, heads, heads, "binary")
    difference = torch.zeros_like(heads["xs"])
    difference[:, 2:] = 7.0
    assert focused_error(difference, weight, torch.ones(())) == 0
    difference[:, 0] = 1.0
    assert focused_error(difference, weight, torch.ones(())) > 0


def test_confidence_head_keeps_a_floor_where_the_quantised_network_sees_a_lane():
    heads = make_heads()
    wrong = {**heads, "cls": heads["cls"].clone()}
    wrong["cls"][:, 5, 1] = 8.0  # a lane that float does not have
    weight = semantic_guided_focus(CLS, heads, wrong, "soft", floor=0.1)
    assert torch.allclose(weight[:, 2:5], torch.full((4, 3, 1), 0.1), atol=1e-3)
    assert torch.all(weight[:, 5] > 0.99)


def test_focus_off_weighs_every_place_the_same():
    heads = make_heads()
    assert semantic_guided_focus(XS, heads, heads, "off") == 1


def test_channel_power_makes_quantities_of_any_size_equal():
    heads = make_heads(frames=400)
    power = channel_power(XS, heads).flatten()
    expected = torch.tensor([1.0, 1e4, 1e-4])
    assert torch.allclose(power / expected, torch.ones(3), rtol=0.2)


@pytest.mark.parametrize("axes,shape", [((1, 2), (5, 4, 7)), ((2, 1), (5, 7, 4))])
def test_confidence_is_laid_along_the_named_axes(axes, shape):
    head = Head("h", shape, "x", LOGITS, axes)
    confidence = torch.arange(28.0).reshape(1, 4, 7)
    laid = on_grid(head, confidence, torch.zeros(1, *shape))
    expected = confidence if axes == (1, 2) else confidence.transpose(1, 2)
    assert torch.equal(laid[0, 0], expected[0])


def test_confidence_of_another_resolution_is_resized():
    head = Head("h", (2, 8, 16), "x", LOGITS, (1, 2))
    laid = on_grid(head, torch.full((3, 4, 8), 0.25), torch.zeros(3, 2, 8, 16))
    assert laid.shape == (3, 1, 8, 16) and torch.allclose(laid, torch.tensor(0.25))


def test_confidence_as_one_minus_background():
    background = Confidence("s", Activation.SOFTMAX, 0, (0,), of_background=True)
    logits = torch.randn(2, 5, 3, 4)
    found = confidence_map(background, {"s": logits})
    assert torch.allclose(found, logits.softmax(1)[:, 1:].sum(1), atol=1e-6)


def test_sigmoid_confidence_without_class_axis():
    found = confidence_map(Confidence("k", Activation.SIGMOID), {"k": torch.zeros(2, 3, 4)})
    assert found.shape == (2, 3, 4) and torch.all(found == 0.5)


def test_curve_interpolates_between_measured_shares():
    curve = SensitivityCurve((0.0, 0.5, 1.0, 2.0), (0.0, 2.0, 3.0, 7.0))
    assert curve.at(0.25) == pytest.approx(1.0)
    assert curve.at(2.0) == pytest.approx(7.0)
    assert curve.at(3.0) == pytest.approx(11.0)


def test_sensitivity_is_zero_without_error_and_grows_with_it():
    heads = make_heads()
    moved = {**heads, "xs": heads["xs"] + torch.tensor([0.2, 0.0, 0.0])}
    curve = inter_head_sensitivity(decode, heads, moved, "xs")
    assert curve.distortion_px[0] == 0
    assert list(curve.distortion_px) == sorted(curve.distortion_px)
    assert curve.at(1.0) == pytest.approx(2.0, abs=0.01)  # 0.2 * 10 px


def test_selection_takes_the_most_sensitive_half_rounded_up():
    found = sensitivity_aware_selection({"a": 0.1, "b": 5.0, "c": 2.0}, None)
    assert found == ["b", "c"]
    assert sensitivity_aware_selection({"a": 1.0, "b": 1.0}, 1) == ["a"]  # a tie goes by name


def test_loss_selects_the_head_that_was_made_sensitive_on_purpose():
    heads = make_heads()
    moved = {
        "cls": heads["cls"] + 0.05,  # the decision stays
        "xs": heads["xs"] + torch.tensor([0.5, 0.0, 0.0]),  # lanes move by 5 px
    }
    recipe = ReconstructionRecipe(focus="soft", selection="interpolated")
    loss = FocusLoss([CLS, XS], decode, {"cls": "cls", "xs": "xs"}, heads, moved, recipe)
    assert loss.selected == ["xs"]
    assert loss(1, moved, heads) == pytest.approx(1.0 + recipe.unselected, rel=0.02)


def test_loss_goes_on_with_the_heads_that_it_had_selected():
    heads = make_heads()
    moved = {"cls": heads["cls"] + 0.05, "xs": heads["xs"] + torch.tensor([0.5, 0.0, 0.0])}
    names = {"cls": "cls", "xs": "xs"}
    recipe = ReconstructionRecipe(focus="soft", selection="interpolated", steps=100, refreshes=20)
    whole = FocusLoss([CLS, XS], decode, names, heads, moved, recipe)
    better = {**moved, "xs": heads["xs"] + torch.tensor([1e-3, 0.0, 0.0])}
    for step in range(4):
        whole(step, better, heads)
    resumed = FocusLoss([CLS, XS], decode, names, heads, moved, recipe)
    resumed.restore(whole.state())
    assert resumed.share == whole.share != {"cls": 1.0, "xs": 1.0}
    assert resumed(5, better, heads) == whole(5, better, heads)
    assert resumed.selected == whole.selected


def test_loss_warns_and_falls_back_when_nothing_is_foreground():
    heads = make_heads()
    heads["cls"][..., 1] = -40.0
    moved = {**heads, "xs": heads["xs"] + 1.0}
    recipe = ReconstructionRecipe(focus="soft")
    loss = FocusLoss([CLS, XS], decode, {"cls": "cls", "xs": "xs"}, heads, moved, recipe)
    assert len(loss.warnings) == 2 and "confidence" in loss.warnings[0]
    assert loss(1, moved, heads) > 0  # every place counts


def test_channel_slope_is_how_far_a_unit_of_the_channel_moves_the_lanes():
    heads = make_heads(frames=8)
    slope = channel_slope(XS, decode, heads).flatten()
    assert slope[0] == pytest.approx(10.0, rel=0.05)  # decode: 10 px per unit of the first offset
    deviation = channel_power(XS, heads).sqrt().flatten()
    least = 0.01 * float(slope[0] * deviation[0])  # the others move nothing, and may not drift
    assert torch.allclose(slope[1:] * deviation[1:], torch.full((2,), least), rtol=1e-3)


def test_channel_slope_without_any_effect_falls_back_to_the_deviation():
    heads = make_heads(frames=4)
    heads["cls"][..., 1] = -8.0  # no lane anywhere
    slope = channel_slope(XS, decode, heads)
    assert torch.allclose(slope, 1 / channel_power(XS, heads).sqrt())
