"""What an error of a head does to the lanes, on a decoder whose derivative is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibrators.lane_metric import class_divergence, has_classes, lane_metric, metric_error
from calibrators.losses import FocusLoss
from calibrators.recipe import ReconstructionRecipe
from trt_lane.lanes import LaneSet
from trt_lane.model import Activation, Confidence, Head

LOGITS = Confidence("cls", Activation.SOFTMAX, axis=1, classes=(1,), threshold=0.5)
CLS = Head("cls", (3, 2), "class logits", LOGITS, (0,))
LINES = Head("lines", (3, 2), "offset and slope", LOGITS, (0,), channel_axis=1)
ROWS = np.arange(100, 0, -10, dtype=np.float32)
FRAME = (100, 1640)


def decode(cls, lines):
    """Straight lanes x = offset + slope * y, where the class says lane."""
    found = [line for c, line in zip(cls, lines, strict=True) if c[1] > c[0]]
    return LaneSet.from_lanes([np.stack([a + b * ROWS, ROWS], 1) for a, b in found], FRAME)


def make_heads(frames=4):
    generator = torch.Generator().manual_seed(0)
    cls = torch.zeros(frames, 3, 2)
    cls[:, :2, 1] = 8.0
    cls[:, 2, 1] = -8.0
    lines = torch.randn(frames, 3, 2, generator=generator) * torch.tensor([2.0, 0.02])
    return {"cls": cls, "lines": lines + torch.tensor([800.0, 1.0])}


def test_the_metric_is_the_mean_square_that_lane_points_move_by():
    metric = lane_metric(LINES, decode, make_heads())
    slopes = np.stack([np.ones_like(ROWS), ROWS], 1)
    expected = slopes.T @ slopes / len(ROWS)
    assert metric.numpy() == pytest.approx(expected, rel=2e-2)


def test_errors_that_cancel_in_the_lanes_cost_little():
    heads = make_heads()
    metric = lane_metric(LINES, decode, heads)
    weight = torch.ones(4, 3, 1)
    apart, together = torch.zeros(4, 3, 2), torch.zeros(4, 3, 2)
    apart[..., 0], apart[..., 1] = 5.5, 0.1
    together[..., 0], together[..., 1] = 5.5, -0.1  # the same lane at the middle row
    errors = [float(metric_error(d, weight, metric, 2)) for d in (apart, together)]
    moved = [np.square(5.5 + sign * 0.1 * ROWS).mean() for sign in (1, -1)]
    assert errors == pytest.approx(moved, rel=5e-2)
    assert errors[1] < 0.1 * errors[0]


def test_places_without_weight_do_not_count():
    metric = lane_metric(LINES, decode, make_heads())
    weight = torch.zeros(4, 3, 1)
    weight[:, 0] = 1
    difference = torch.zeros(4, 3, 2)
    difference[:, 1:] = 3.0
    assert metric_error(difference, weight, metric, 2) == 0


def test_a_head_that_moves_no_lane_is_held_by_its_deviation():
    heads = make_heads()
    heads["cls"][..., 1] = -8.0
    metric = lane_metric(LINES, decode, heads)
    assert float(metric[0, 1]) == 0 and torch.all(metric.diag() > 0)
    assert metric[1, 1] > 100 * metric[0, 0]  # the slope varies a hundred times less


def test_divergence_is_that_of_the_probabilities():
    heads = make_heads()
    shifted = heads["cls"] + 3.0  # a softmax does not see it
    weight = torch.ones(4, 3, 1)
    assert float(class_divergence(LOGITS, heads["cls"], shifted, weight)) == pytest.approx(0)
    flipped = heads["cls"].flip(-1)
    p, q = (torch.softmax(v, 2) for v in (heads["cls"], flipped))
    expected = float((p * (p / q).log()).sum(2).mean())
    found = float(class_divergence(LOGITS, heads["cls"], flipped, weight))
    assert found == pytest.approx(expected, rel=1e-4)


def test_only_heads_that_hold_their_own_classes_have_a_divergence():
    assert has_classes(CLS)
    assert not has_classes(LINES)
    heat = Confidence("heat", Activation.SIGMOID)
    assert not has_classes(Head("heat", (1, 4, 4), "heat map", heat, (1, 2)))


@pytest.mark.parametrize("focus", ["off", "soft", "binary"])
def test_the_loss_in_lanes_is_zero_only_where_nothing_changed(focus):
    recipe = ReconstructionRecipe(focus=focus, channels="lanes", classes="divergence")
    floats = make_heads()
    quantised = {name: value + 0.01 * value.abs().mean() for name, value in floats.items()}
    quantised["cls"] = floats["cls"] * 0.7
    names = {"cls": "cls", "lines": "lines"}
    loss = FocusLoss((CLS, LINES), decode, names, floats, quantised, recipe)
    assert float(loss(0, floats, floats)) == 0
    assert float(loss(0, quantised, floats)) == pytest.approx(2.0, rel=1e-4)
    plain = FocusLoss(
        (CLS, LINES), decode, names, floats, quantised, replace(recipe, channels="variance")
    )
    worse = {**floats, "lines": floats["lines"] + torch.tensor([5.0, 0.1])}
    better = {**floats, "lines": floats["lines"] + torch.tensor([5.0, -0.1])}
    ratios = [float(found(0, worse, floats) / found(0, better, floats)) for found in (loss, plain)]
    assert ratios[0] > 3 * ratios[1]
