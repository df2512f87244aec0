import itertools
import json
from argparse import ArgumentTypeError
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from two_heads import FRAME_HW, two_heads, write_frames

from calibrators.budget import planner
from calibrators.budget.command import describe, points
from calibrators.budget.judge import Noise, Verdict, allowed_points
from calibrators.budget.judge import judge as planner_judge
from calibrators.budget.plan import Kind, apply_plan
from calibrators.budget.planner import plan_budget
from calibrators.budget.search import Search
from calibrators.calibrate import calibrate
from calibrators.fake_quant import quantised_network
from calibrators.network import folded_model
from calibrators.network_parts import Block
from calibrators.recipe_files import load_recipe
from calibrators.sensitivity.evaluation import (
    NO_BAR,
    EvaluationFrames,
    evaluation_frames,
    lanes_of_form,
    lanes_of_forms,
    outcome,
)
from calibrators.sensitivity.mixed import table_layers, without_layers
from calibrators.sensitivity.variants import Variants
from engines.card import KEY, ModelCard
from engines.export import export
from engines.lint import lint
from trt_lane.datasets.base import Label
from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric
from trt_lane.models._folded import fold
from trt_lane.scales import ScaleTable

MINMAX = load_recipe("int8_minmax")


def planned(folder, ruined, budget, lanes=True, **limit):
    model, network = two_heads(ruined)
    if not lanes:
        network.exist2.bias.data[:] = -30
    graph_module = fold(network, model.image.input_hw)
    frames = evaluation_frames(write_frames(folder), model.image, 6)
    table = calibrate(graph_module, frames.inputs, MINMAX)
    plan = plan_budget(model, graph_module, table, frames, budget, **limit)
    return model, network, graph_module, table, plan


def precision(exported):
    """What the card in an ONNX says; its decoder is this test's own."""
    told = json.loads(next(p.value for p in exported.metadata_props if p.key == KEY))
    digests = {**told["digests"], "scales": told["scales"]}
    image = ImageSpec.from_dict(told["image"])
    card = ModelCard("m", image, (), {}, told["float_type"], None, digests, told["plan"])
    return card.plan["float_layers"], card.precision


def test_with_nothing_to_lose_a_budget_of_0_keeps_everything_in_int8(tmp_path):
    _, _, graph_module, table, plan = planned(tmp_path, "", 0.0)
    assert plan.kind is Kind.ALL_INT8
    assert plan.float_layers == () and plan.int8_share == 1
    assert apply_plan(table, graph_module, plan).digest() == table.digest()


def test_the_layer_that_was_made_sensitive_goes_to_float_and_no_other(tmp_path):
    model, network, graph_module, table, plan = planned(tmp_path, "place", 0.3)
    assert plan.kind is Kind.HEAD_LAYERS
    assert plan.float_layers == ("place2",)
    assert plan.before.loss_points > 50 and plan.after.loss_points <= 0.3
    assert plan.after.agreement_f1 >= 0.98 and plan.int8_share > 0.97
    mixed = apply_plan(table, graph_module, plan)
    assert table_layers(mixed) == [p for p in table_layers(table) if p != "place2"]
    exported = export(model, network, mixed, tmp_path / "m.onnx", "fp16")
    assert lint(exported) == []
    assert precision(exported) == (["place2"], "int8+fp16")


def test_what_was_planned_is_what_is_measured(tmp_path):
    model, _, graph_module, table, plan = planned(tmp_path, "place", 0.3)
    frames = evaluation_frames(plan.data, model.image, 6)
    with torch.no_grad():
        found = quantised_network(graph_module, apply_plan(table, graph_module, plan))
        heads, floats = found(frames.inputs), graph_module(frames.inputs)
    error = (heads["place"] - floats["place"]).abs().max()
    assert 0 < error < 0.05 * floats["place"].abs().max()


def test_a_sensitive_trunk_makes_fp16_the_better_choice(tmp_path):
    model, network, graph_module, table, plan = planned(tmp_path, "trunk", 0.3)
    assert plan.kind is Kind.FLOAT
    assert "FP16 as a whole is the better choice" in plan.reason[0]
    assert plan.int8_share == 0 and plan.after.loss_points == 0
    mixed = apply_plan(table, graph_module, plan)
    exported = export(model, network, mixed, tmp_path / "m.onnx", "fp16")
    assert lint(exported) == []
    assert not {n.op_type for n in exported.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    assert precision(exported) == (table_layers(table), "fp16")


def test_a_wide_budget_is_not_spent(tmp_path):
    *_, plan = planned(tmp_path, "place", 100.0)
    # Only the agreement with float is looked after, as far as it is cheap.
    assert plan.int8_share >= 0.97 and plan.after.agreement_f1 >= 0.98


@pytest.mark.parametrize(
    ("high_points", "factor", "in_float"),
    [
        (1.0, 0.5, ("exist2", "place2")),  # every layer halves what the lanes bend
        (1.0, 0.97, ()),  # not worth it
        (0.2, 0.5, ()),  # the budget is held whatever the frames do not tell
    ],
)
def test_where_frames_cannot_tell_a_loss_from_chance_free_layers_are_kept_in_float(
    tmp_path, monkeypatch, high_points, factor, in_float
):
    model, network = two_heads("")
    graph_module = fold(network, model.image.input_hw)
    frames = evaluation_frames(write_frames(tmp_path), model.image, 6)
    table = calibrate(graph_module, frames.inputs, MINMAX)
    search = Search(model, graph_module, table, frames, 0.3, NO_BAR)
    search.measure([()])
    search.noise[frozenset()] = Noise(0.5, -1.0, high_points)

    def measure(plans):
        return [Verdict("f1", 0.9, 0.9, 1.0, 2 * factor ** len(plan), 0.0) for plan in plans]

    monkeypatch.setattr(search, "measure", measure)
    monkeypatch.setattr(search, "rank", lambda: (["place2"], [Block("b", ("exist2",))]))
    monkeypatch.setattr(planner, "FREE_SHARE", 1.01 * search.float_share(["exist2", "place2"]))
    assert sorted(planner._layers_in_float(search)) == list(in_float)
    monkeypatch.setattr(planner, "FREE_SHARE", search.float_share(["exist2"]) / 2)
    assert planner._layers_in_float(search) == ()


def test_the_loss_tells_how_far_lanes_are_moved_not_on_which_side_of_one_threshold_they_fall():
    frame_hw = (590, 1640)
    rows = np.arange(580.0, 200, -10)

    def at(x):
        return LaneSet.from_lanes([np.stack([np.full_like(rows, x), rows], 1)], frame_hw)

    labels = [Label(str(i), at(800 + 100 * i)) for i in range(3)]
    dataset = SimpleNamespace(metric=Metric.CULANE, spec="made")
    frames = EvaluationFrames(dataset, (0, 1, 2), torch.zeros(3, 3, 4, 4), (), tuple(labels))
    # IoU .5 is at 10 px; the float lanes lie a pixel on the good side of it.
    lanes = {
        "float": [at(809), at(909), at(1009)],
        "near": [at(812), at(912), at(1012)],
        "far": [at(816), at(916), at(1016)],
    }
    found = {}
    for form in ("near", "far"):
        outcomes = (outcome(frames, lanes[name], lanes["float"]) for name in (form, "float"))
        found[form] = planner_judge(frames, *outcomes, lanes[form], lanes["float"])[0]
    assert found["near"].value == found["far"].value == 0
    assert found["near"].float_value == 1
    assert 0 < found["near"].loss_points < 25
    assert found["far"].loss_points > 40


def test_without_labels_the_loss_is_that_of_agreement_at_the_official_threshold():
    frames = EvaluationFrames(
        SimpleNamespace(metric=None, spec="made"), (0,), torch.zeros(1, 3, 4, 4), (), (Label("0"),)
    )
    rows = np.arange(580.0, 200, -10)

    def at(x):
        return [LaneSet.from_lanes([np.stack([np.full_like(rows, x), rows], 1)], (590, 1640))]

    def loss(moved_px):
        lanes = at(800 + moved_px)
        outcomes = (outcome(frames, one, at(800)) for one in (lanes, at(800)))
        verdict, noise = planner_judge(frames, *outcomes, lanes, at(800))
        assert noise.lane_points == 100 and verdict.metric == "agreement_f1"
        return verdict.loss_points

    assert loss(0) == 0 and loss(2) == 0 and loss(60) == pytest.approx(100)
    # Lanes are 30 px wide: the IoU is 21 / 39 at 9 px, and 19 / 41 at 11 px.
    assert loss(9) == 0 and loss(11) == pytest.approx(100)


@pytest.mark.parametrize(
    ("metric", "lane_points", "allowed"),
    [
        ("agreement_f1", 0.2, 0.3),
        ("agreement_f1", 1.7, 1.7),  # finer than one lane, 59 lanes cannot tell
        ("agreement_f1", 2.0, 2.0),
        ("agreement_f1", 2.1, 0.3),  # less than 0.98 would agree
        ("f1", 1.7, 0.3),
        ("accuracy", 1.7, 0.3),
    ],
)
def test_of_few_unlabelled_frames_one_lane_may_be_lost(metric, lane_points, allowed):
    verdict = Verdict(metric, 1.0, 1.0, 1.0, 0.0, 0.0)
    assert allowed_points(0.3, verdict, Noise(lane_points, 0.0, 0.0)) == allowed


def ticking():
    """A clock that moves by a second whenever somebody looks at it."""
    return partial(next, itertools.count())


def test_a_search_without_time_has_measured_once_and_takes_what_holds(tmp_path):
    *_, plan = planned(tmp_path, "", 0.3, limit_s=0, clock=ticking())
    assert plan.kind is Kind.ALL_INT8 and plan.complete  # there was nothing to look for
    *_, plan = planned(tmp_path, "place", 0.3, limit_s=0, clock=ticking())
    assert plan.kind is Kind.FLOAT and not plan.complete
    assert plan.after.loss_points == 0 and plan.int8_share == 0
    words = describe(plan)
    assert "no plan that was measured stays within 0.3 points" in " ".join(words.split())
    assert "stopped after 0 minutes, with 2 plans measured" in " ".join(words.split())


def test_with_every_second_more_the_plan_holds_the_budget_and_in_the_end_it_is_the_whole_one(
    tmp_path,
):
    whole = planned(tmp_path, "place", 0.3)[-1]
    plans = []
    for seconds in (5, 20, 80, 1000):
        *_, plan = planned(tmp_path, "place", 0.3, limit_s=seconds, clock=ticking())
        assert plan.after.loss_points <= 0.3
        assert plan.complete or any("BUDGET_MINUTES=" in reason for reason in plan.reason)
        plans.append(plan)
    assert not plans[0].complete
    assert plans[-1] == whole and whole.complete
    shares = [plan.int8_share for plan in plans]
    assert shares == sorted(shares)


def test_the_bar_tells_the_time_that_the_search_may_take(tmp_path):
    told = []

    def bar(items, total, what):
        for item in items:
            told.append(what())
            yield item

    planned(tmp_path, "place", 0.3, bar=bar, limit_s=120)
    assert told[0] == "plan 1, 0.0 of 2 min"
    assert any(words.startswith("parts, ") for words in told)


def test_a_form_alone_has_the_lanes_that_it_has_among_others(tmp_path):
    model, network = two_heads("place")
    graph_module = fold(network, model.image.input_hw)
    frames = evaluation_frames(write_frames(tmp_path), model.image, 6)
    table = calibrate(graph_module, frames.inputs, MINMAX)
    mixed = without_layers(table, graph_module, ["place2"])
    variants = Variants(graph_module, table)
    among = lanes_of_forms(model.decoder, variants, {"mixed": mixed}, frames)["mixed"]
    alone = lanes_of_form(model.decoder, variants, mixed, frames)
    assert len(among) == len(alone) == 6
    for one, other in zip(among, alone, strict=True):
        np.testing.assert_array_equal(one.points, other.points)


def test_few_frames_are_said_to_be_few(tmp_path):
    *_, plan = planned(tmp_path, "place", 0.3)
    assert plan.noise.lane_points == pytest.approx(100 / 12)
    assert any("more than the budget" in reason for reason in plan.reason)
    words = describe(plan)
    assert "kept in float: place2" in words and "95 % interval" in words


def test_where_nothing_sees_a_lane_the_plan_says_that_nothing_was_measured(tmp_path):
    *_, plan = planned(tmp_path, "place", 0.3, lanes=False)
    assert plan.kind is Kind.ALL_INT8
    said = describe(plan).replace("\n  ", " ")
    assert "find no lane on these frames" in said and "one lane is 100.00 points, more" not in said
    *_, seeing = planned(tmp_path, "", 0.3)
    assert "find no lane" not in describe(seeing)


def test_a_float_network_that_scores_0_is_said_to(tmp_path):
    """The labels are far from every lane."""
    model, network = two_heads()
    graph_module = fold(network, model.image.input_hw)
    frames = evaluation_frames(write_frames(tmp_path), model.image, 6)
    frames.dataset.metric = "culane"
    far = np.array([[[5.0, 300.0], [6.0, 100.0]]], np.float32)
    labelled = replace(
        frames,
        labels=tuple(
            replace(label, lanes=LaneSet(far, np.ones(1), FRAME_HW)) for label in frames.labels
        ),
    )
    table = calibrate(graph_module, frames.inputs, MINMAX)
    plan = plan_budget(model, graph_module, table, labelled, 0.3)
    assert plan.before.float_value == 0
    assert "itself scores 0" in describe(plan)


def test_a_plan_travels_in_the_table(tmp_path):
    _, _, graph_module, table, plan = planned(tmp_path, "place", 0.3)
    path = tmp_path / "scales.npz"
    apply_plan(table, graph_module, plan).save(path)
    info = ScaleTable.load(path).info
    assert info["plan"]["float_layers"] == ["place2"]
    assert info["plan"]["kind"] == "head layers in float"
    assert info["plan"]["before"]["loss_points"] > info["plan"]["after"]["loss_points"]
    assert info["recipe"] == "int8_minmax"
    json.dumps(info, allow_nan=False)


def test_the_same_frames_give_the_same_plan(tmp_path):
    first = planned(tmp_path / "a", "place", 0.3)[-1]
    again = planned(tmp_path / "b", "place", 0.3)[-1]
    assert first.float_layers == again.float_layers
    assert first.after == again.after and first.noise == again.noise


@pytest.mark.parametrize(
    ("given", "expected"), [("0.3", 0.3), ("0", 0), ("none", None), ("", None)]
)
def test_a_budget_is_points_or_none(given, expected):
    assert points(given) == expected


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "three", "101"])
def test_what_is_no_budget_is_refused(given):
    with pytest.raises(ArgumentTypeError, match="expected points from 0 to 100"):
        points(given)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["int8_minmax", "int8_mse"])
def test_the_official_lstr_holds_the_default_budget_with_its_head_in_float(shared, recipe):
    model, graph_module = folded_model("lstr.tusimple", shared / "weights/lstr_tusimple.pkl")
    frames = evaluation_frames(f"tusimple:{shared / 'data/tusimple'}", model.image, 17)
    table = calibrate(graph_module, frames.inputs, load_recipe(recipe))
    plan = plan_budget(model, graph_module, table, frames, 0.3)
    assert plan.kind is Kind.HEAD_LAYERS and plan.int8_share > 0.999
    assert plan.before.loss_points > 0.7 and plan.after.loss_points <= 0.3
    assert plan.after.agreement_f1 >= 0.98
    assert any("specific_embed" in layer for layer in plan.float_layers)
    assert not without_layers(table, graph_module, plan.float_layers).weights.keys() & {
        f"{layer}.weight" for layer in plan.float_layers
    }
