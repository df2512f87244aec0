import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from run_program import refused
from two_heads import two_heads, write_frames

from calibrators.budget import cli as budget_cli
from calibrators.budget import command, planner
from calibrators.budget.command import planned
from calibrators.budget.plan import Kind, apply_plan
from calibrators.budget.planner import plan_budget
from calibrators.budget.relearn import confirmed, is_mixed, learned_again, learned_around
from calibrators.budget.search import Search
from calibrators.cli import main as calibrate
from calibrators.quantise import quantise
from calibrators.recipe_files import load_recipe
from calibrators.sensitivity.evaluation import NO_BAR, evaluation_frames
from calibrators.sensitivity.mixed import table_layers, without_layers
from engines.export import export
from engines.lint import lint
from trt_lane.models._folded import fold

LEARNING = load_recipe("int8_selective_focus")
SHORT = dataclasses.replace(
    LEARNING,
    equalise=False,
    reconstruction=dataclasses.replace(LEARNING.reconstruction, steps=8, refreshes=2),
)


@pytest.fixture
def made(tmp_path):
    """A network whose last layer INT8 ruins, its plan, and how its recipe learns again."""
    model, network = two_heads("place")
    graph_module = fold(network, model.image.input_hw)
    frames = evaluation_frames(write_frames(tmp_path), model.image, 6)

    def learn(in_float=()):
        return quantise(model, graph_module, frames.inputs, SHORT, in_float=in_float)

    table = learn()
    plan = plan_budget(model, graph_module, table, frames, 0.3)
    assert plan.kind is Kind.HEAD_LAYERS and plan.float_layers == ("place2",)
    return SimpleNamespace(
        model=model, network=network, graph=graph_module, frames=frames,
        learn=learn, table=table, plan=plan,
    )  # fmt: skip


def again(made, learn):
    return learned_again(made.model, made.graph, made.table, made.plan, made.frames, learn)


def bending_more(made):
    """The plan as if its lanes bent more than any table's."""
    after = dataclasses.replace(made.plan.after, distortion_px=25.0)
    made.plan = dataclasses.replace(made.plan, after=after)


def test_what_stays_in_float_is_learned_around(made, tmp_path):
    bending_more(made)
    asked = []
    table, plan = again(made, lambda layers: asked.append(tuple(layers)) or made.learn(layers))
    assert asked == [("place2",)]
    assert table_layers(table) == [p for p in table_layers(made.table) if p != "place2"]
    assert plan.float_layers == made.plan.float_layers and plan.int8_share == made.plan.int8_share
    assert plan.after.distortion_px < 25 and "learned again" in plan.reason[-1]
    mixed = apply_plan(table, made.graph, plan)
    assert mixed.sites == without_layers(made.table, made.graph, ["place2"]).sites
    assert mixed.info["plan"]["after"]["distortion_px"] == plan.after.distortion_px
    exported = export(made.model, made.network, mixed, tmp_path / "m.onnx", "fp16")
    assert lint(exported) == []


def test_what_was_learned_without_them_is_another_network(made):
    around = made.learn(("place2",))
    cut = without_layers(made.table, made.graph, ["place2"])
    assert around.weights.keys() == cut.weights.keys()
    assert any((around.rounded[name] != cut.rounded[name]).any() for name in cut.rounded)


def test_a_table_that_bends_the_lanes_more_is_not_taken(made):
    def ruin(layers):
        table = made.learn(layers)
        return dataclasses.replace(
            table, rounded={name: np.zeros_like(v) for name, v in table.rounded.items()}
        )

    table, plan = again(made, ruin)
    assert table is made.table
    assert plan.after == made.plan.after and "did not help" in plan.reason[-1]


@pytest.mark.parametrize(("loss_allowed", "taken"), [(100.0, "cheaper"), (-100.0, "dear")])
def test_a_cheaper_plan_is_taken_where_it_holds_once_it_is_learned(made, loss_allowed, taken):
    bending_more(made)
    cheaper = dataclasses.replace(made.plan, budget_points=loss_allowed)
    layers = ("place1", "place2")
    dear = dataclasses.replace(cheaper, float_layers=layers, int8_share=0.5, cheaper=cheaper)
    asked = []

    def learn(in_float):
        asked.append(tuple(in_float))
        return made.learn(in_float)

    _, plan = learned_around(made.model, made.graph, made.table, dear, made.frames, learn)
    if taken == "cheaper":
        assert asked == [("place2",)] and plan.float_layers == ("place2",)
    else:
        assert asked == [("place2",), layers] and plan.float_layers == layers


def test_a_dear_plan_comes_with_the_best_of_the_cheap_ones(made):
    search = Search(made.model, made.graph, made.table, made.frames, 0.3, NO_BAR)
    search.measure([("place2",), ("exist2",), ("place1", "place2")])
    few = frozenset({"place2"})
    for layers, verdict in search.known.items():
        loss = 0.5 if layers == few else 0.8
        search.known[layers] = dataclasses.replace(verdict, loss_points=loss)
    assert planner._cheaper(search, search.order) == ("place2",)
    assert planner._cheaper(search, ("place2",)) == ()
    search.known[few] = dataclasses.replace(search.known[few], loss_points=50.0)
    assert planner._cheaper(search, search.order) == ("exist2",)


def test_a_budget_that_is_won_by_learning_again_counts_more_than_what_lanes_bend(made):
    figures = {"distortion_px": 0.0, "loss_points": 5.0}
    after = dataclasses.replace(made.plan.after, **figures)
    made.plan = dataclasses.replace(made.plan, after=after, budget_points=100.0)
    assert again(made, made.learn)[0] is made.table  # the budget was held, and lanes bend more
    made.plan = dataclasses.replace(made.plan, budget_points=0.3)
    table, plan = again(made, made.learn)
    assert table is not made.table and plan.holds()


@pytest.fixture
def many(made, tmp_path):
    """Four times the frames that the plan was made on."""
    return evaluation_frames(write_frames(tmp_path / "many", 24), made.model.image, 24)


def test_a_plan_is_confirmed_on_more_frames(made, many):
    on = (made.model, made.graph, made.table)
    assert confirmed(*on, made.plan, made.frames) is made.plan  # nothing new to see
    in_float = dataclasses.replace(made.plan, kind=Kind.FLOAT)
    assert confirmed(*on, in_float, many) is in_float
    plan = confirmed(*on, made.plan, many)
    whole = plan_budget(*on, many, 0.3)
    assert plan.float_layers == whole.float_layers == ("place2",)
    assert (plan.frames, plan.before, plan.after) == (24, whole.before, whole.after)
    assert plan.noise == whole.noise
    assert plan.reason[:-1] == made.plan.reason
    assert plan.reason[-1].startswith("that was on 6 frames; on 24 it is 0.00 points")


def test_a_plan_that_more_frames_do_not_confirm_is_searched_again_on_them(
    made, many, monkeypatch, capsys
):
    """The first search has luck with its frames."""
    seen = []

    def search(model, graph_module, table, frames, *rest):
        seen.append(len(frames))
        plan = plan_budget(model, graph_module, table, frames, *rest)
        if len(frames) == 24:
            return plan
        return dataclasses.replace(plan, kind=Kind.ALL_INT8, float_layers=(), int8_share=1.0)

    monkeypatch.setattr(command, "plan_budget", search)
    options = SimpleNamespace(
        budget=0.3, budget_data=many.dataset.spec, budget_frames=6, budget_minutes=5.0
    )
    table, words = planned(made.model, made.graph, made.table, options)
    assert seen == [6, 24]
    assert "24 frames do not confirm the plan" in capsys.readouterr().err
    assert table.info["plan"]["float_layers"] == ["place2"] and "on 24 frames of" in words


def test_a_large_network_is_not_confirmed_on_more_frames_than_it_has_time_for(
    made, many, monkeypatch
):
    few = evaluation_frames(many.dataset.spec, made.model.image, 2)
    assert len(command._more(few, made.model, made.graph)) == 8
    assert len(command._more(many, made.model, made.graph)) == 24
    macs = sum(command.layer_macs(made.graph).values())
    monkeypatch.setattr(command, "MORE_MACS", 5.5 * macs)
    assert len(command._more(few, made.model, made.graph)) == 5
    assert command._more(made.frames, made.model, made.graph) is made.frames


def test_only_a_mixed_plan_is_learned_again(made):
    assert is_mixed(made.plan)
    for kind in (Kind.ALL_INT8, Kind.FLOAT):
        assert not is_mixed(dataclasses.replace(made.plan, kind=kind))
    options = SimpleNamespace(
        budget=100.0, budget_data=made.frames.dataset.spec, budget_frames=6, budget_minutes=5.0
    )
    unruined = two_heads("")[1]
    graph = fold(unruined, made.model.image.input_hw)
    table = quantise(made.model, graph, made.frames.inputs, load_recipe("int8_minmax"))

    def never(layers):
        raise AssertionError(layers)

    _, words = planned(made.model, graph, table, options, never)
    assert "all INT8" in words


def test_people_are_told(made, capsys):
    options = SimpleNamespace(
        budget=0.3, budget_data=made.frames.dataset.spec, budget_frames=6, budget_minutes=5.0
    )
    table, words = planned(made.model, made.graph, made.table, options, made.learn)
    assert "1 layer stays in float; learning again around it" in capsys.readouterr().err
    assert "learn" in words.replace("\n  ", " ").split("kept in float")[0]
    assert table.info["plan"]["float_layers"] == ["place2"]


@pytest.fixture(scope="module")
def nearest(tmp_path_factory):
    """A table of the smallest demo by a recipe that learns nothing."""
    out = tmp_path_factory.mktemp("nearest") / "all.npz"
    words = ["bezierlanenet", "--recipe", "int8_minmax", "--frames", "2", "--out", str(out)]
    assert calibrate(words) == 0
    return out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--recipe", "int8_mse"), "--recipe and --data go together"),
        (
            ("--recipe", "int8_selective_focus", "--data", "synthetic:calibration"),
            "the scale table is not of --recipe int8_selective_focus",
        ),
        (("--recipe", "int8_nonsense", "--data", "synthetic:calibration"), "int8_nonsense"),
        (("--recipe", "int8_mse", "--data", "images:nowhere"), "nowhere"),
    ],
)
def test_what_the_table_was_not_made_with_is_refused(nearest, tmp_path, capsys, given, says):
    out = tmp_path / "scales.npz"
    words = ["bezierlanenet", "--scales", str(nearest), "--budget", "0.3", "--out", str(out)]
    assert says in refused(capsys, budget_cli.main, [*words, *given])
    assert not out.exists()
