"""Targets of every demo, back through its decoder and its loss, on the synthetic roads' labels."""

from functools import cache

import numpy as np
import pytest
import torch
from perfect_heads import perfect_heads
from tiny_training import straight_lanes

from training.augment import mirror
from training.data import MAX_POINTS, SLOTS, TRAIN_SEED
from training.targets import targets_of
from trt_lane.datasets.synthetic import FULL_HW, Split, ground_truth, sample
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts, score_image
from trt_lane.model import get_model

DEMOS = ("laneatt", "ganet", "bezierlanenet", "erfnet")
LABEL_SETS = 50
NOTHING = straight_lanes(None, None, None, None)
LANES = straight_lanes((150, 640), (600, 760), (1020, 850), None)


@cache
def labels(index: int) -> np.ndarray:
    """Lanes (S, P, 2) of a training frame by slot, as training.data gives them."""
    lanes = np.full((SLOTS, MAX_POINTS, 2), np.nan, np.float32)
    for lane, slot in zip(*ground_truth(sample(TRAIN_SEED, index, Split.TRAIN)), strict=True):
        lanes[slot, : len(lane)] = lane
    return lanes


def label_set(lanes: np.ndarray) -> LaneSet:
    whole = LaneSet(lanes, np.ones(len(lanes)), FULL_HW).lanes()
    return LaneSet.from_lanes([lane for lane in whole if len(lane)], FULL_HW)


def decoded(model, lanes: np.ndarray) -> LaneSet:
    return model.decoder(**perfect_heads(model, targets_of(model).targets(model, lanes)))


def off_px(found: np.ndarray, lane: np.ndarray) -> float:
    """Mean distance to the labelled polyline of the points found on its rows.

    Below them a decoder may go on to the frame's edge, and beyond it where nothing is drawn.
    """
    found = found[(found[:, 1] >= lane[:, 1].min()) & (found[:, 1] <= lane[:, 1].max())]
    dense = np.linspace(0, len(lane) - 1, 20 * len(lane))
    line = np.stack([np.interp(dense, np.arange(len(lane)), lane[:, i]) for i in (0, 1)], axis=1)
    return (
        np.linalg.norm(found[:, None] - line, axis=2).min(axis=1).mean() if len(found) else np.inf
    )


def batch(model, *frames: np.ndarray) -> dict[str, torch.Tensor]:
    targets = [targets_of(model).targets(model, lanes) for lanes in frames]
    return {k: torch.from_numpy(np.stack([t[k] for t in targets])) for k in targets[0]}


def heads_of(model, *frames: np.ndarray) -> dict[str, torch.Tensor]:
    targets = [targets_of(model).targets(model, lanes) for lanes in frames]
    heads = [perfect_heads(model, t) for t in targets]
    return {k: torch.from_numpy(np.stack([h[k] for h in heads])) for k in heads[0]}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", DEMOS)
def test_targets_go_through_the_decoder_to_the_labelled_lanes(name, mirrored):
    model, counts, distances = get_model(name), CulaneCounts(), []
    flip = mirror(FULL_HW)
    for index in range(LABEL_SETS):
        lanes = labels(index)
        if mirrored:
            lanes = (lanes @ flip[:2, :2].T + flip[:2, 2])[::-1].astype(np.float32)
        found, wanted = decoded(model, lanes), label_set(lanes)
        counts += score_image(found, wanted)[0]
        distances += [min(off_px(f, w) for w in wanted.lanes()) for f in found.lanes()]
    assert counts.f1 >= 0.95
    assert np.median(distances) < 2.5 and np.max(distances) < 10


@pytest.mark.parametrize("name", DEMOS)
def test_frame_without_lanes_has_targets_that_decode_to_none(name):
    assert len(decoded(get_model(name), NOTHING)) == 0


@pytest.mark.parametrize("name", DEMOS)
def test_frame_without_lanes_has_a_finite_loss_with_finite_gradients(name):
    model = get_model(name)
    heads = {h.name: torch.zeros(2, *h.shape, requires_grad=True) for h in model.heads}
    value = targets_of(model).loss(model, heads, batch(model, NOTHING, NOTHING))
    gradients = torch.autograd.grad(value, list(heads.values()))
    assert torch.isfinite(value) and all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", DEMOS)
def test_loss_is_less_at_the_targets_than_at_other_lanes_or_none(name):
    model, loss = get_model(name), targets_of(get_model(name)).loss
    wanted = batch(model, LANES, labels(0))
    best = loss(model, heads_of(model, LANES, labels(0)), wanted)
    moved = LANES + np.float32([25, 0])
    for wrong in ((moved, labels(0)), (LANES, labels(1)), (LANES, NOTHING)):
        assert loss(model, heads_of(model, *wrong), wanted) > best + 0.003


@pytest.mark.parametrize("name", DEMOS)
def test_every_head_is_learnt(name):
    model = get_model(name)
    rng = np.random.default_rng(0)
    heads = {
        h.name: torch.from_numpy(rng.standard_normal((2, *h.shape), np.float32)).requires_grad_()
        for h in model.heads
    }
    value = targets_of(model).loss(model, heads, batch(model, LANES, labels(0)))
    gradients = torch.autograd.grad(value, list(heads.values()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", DEMOS)
def test_recipe_leaves_time_for_rendering_within_the_hour(name):
    recipe = targets_of(get_model(name)).RECIPE
    assert recipe.minutes is not None and recipe.minutes <= 50


@pytest.mark.parametrize("name", DEMOS)
def test_lanes_along_the_edges_of_the_frame_come_back(name):
    found = decoded(get_model(name), straight_lanes((16, 16), None, None, (1624, 1624)))
    assert len(found) == 2
    for lane in found.lanes():
        assert min(abs(lane[:, 0] - x).max() for x in (16, 1624)) < 6


@pytest.mark.parametrize("rows_off", [-0.3, 0.3])
def test_roots_at_the_lower_edge_of_the_frame_may_come_out_a_little_off(rows_off):
    model = get_model("ganet")
    heads = perfect_heads(model, targets_of(model).targets(model, LANES))
    heads["pts_offset"][1] += rows_off
    assert len(model.decoder(**heads)) == 3


def test_lines_that_are_learnt_are_an_error_that_says_what_is_trained():
    with pytest.raises(TrtLaneError, match="expected a network with fixed lines"):
        targets_of(get_model("laneatt")).targets(get_model("clrnet.r18_culane"), LANES)


def test_other_number_of_lanes_than_a_segmentation_has_is_an_error():
    with pytest.raises(TrtLaneError, match="4 lanes"):
        targets_of(get_model("erfnet")).targets(get_model("erfnet"), LANES[:3])


def test_curves_that_meet_keep_columns_of_their_own():
    model = get_model("bezierlanenet")
    close = straight_lanes((800, 780), (805, 790), (810, 800), (815, 810))
    label = targets_of(model).targets(model, close)["label"]
    assert np.flatnonzero(label == 1).size == 4
    assert np.diff(np.flatnonzero(label == 1)).min() > model.decoder.window // 2 + 2
    assert len(decoded(model, close)) == 4
