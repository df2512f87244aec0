"""Reconstruction on small networks: it learns, resumes exactly, and keeps to its units."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn

from calibrators.activation_cache import ActivationCache
from calibrators.calibrate import calibrate
from calibrators.fake_quant import quantised_network
from calibrators.losses import UnitLoss
from calibrators.recipe import QuantRecipe, ReconstructionRecipe, TensorRecipe
from calibrators.reconstruct import phases, reconstruct
from calibrators.student import make_student
from calibrators.units import Stretch, StretchToHeads, block_units, layer_units, network_unit
from trt_lane.errors import TrtLaneError
from trt_lane.models._folded import fold
from trt_lane.models._resnet import BasicBlock

FOUR_BITS = QuantRecipe("t", "", TensorRecipe("minmax", 4), TensorRecipe("minmax", 4))


class Small(nn.Module):
    """Stem, a plain and a strided residual block, two heads."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.a = BasicBlock(8, 8)
        self.b = BasicBlock(8, 16, 2)
        self.left, self.right = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = self.b(self.a(torch.relu(self.stem(x))))
        return {"left": self.left(x), "right": self.right(x)}


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    graph_module = fold(Small(), (24, 32))
    frames = torch.randn(12, 3, 24, 32)
    return graph_module, frames, calibrate(graph_module, frames, FOUR_BITS)


def error(graph_module, table, frames):
    with torch.no_grad():
        heads, heads_q = graph_module(frames), quantised_network(graph_module, table)(frames)
    return sum(float((heads[k] - heads_q[k]).square().mean()) for k in heads)


def test_blocks_follow_the_graph_not_the_modules(case):
    units = block_units(case[0])
    assert [u.name for u in units] == ["relu", "a_relu_1", "b_relu_1", "right"]
    assert units[1].inputs == ("relu",) and units[1].outputs == ("a_relu_1",)
    assert set(units[3].outputs) == {"left", "right"}


def test_layers_are_single_nodes(case):
    assert all(len(u.nodes) == 1 for u in layer_units(case[0]))
    assert len(layer_units(case[0])) == 8


def test_stretch_gives_what_the_whole_network_gives(case):
    graph_module, frames, table = case
    student = make_student(graph_module, table, ReconstructionRecipe()).network
    unit = network_unit(graph_module)
    whole = student(frames[:2])
    part = Stretch(student, unit)({"image": frames[:2]})
    assert torch.equal(part["left"], whole["left"])


class Skips(nn.Module):
    """A head that is ready early, and an image that is read again late."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.early = nn.Conv2d(8, 2, 1)
        self.layers = nn.Sequential(*(nn.Conv2d(8, 8, 3, 1, 1) for _ in range(8)))
        self.late = nn.Conv2d(11, 2, 1)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        return {"early": self.early(y), "late": self.late(torch.cat([self.layers(y), x], 1))}


@pytest.mark.parametrize("network", [Small, Skips])
def test_every_block_and_what_follows_it_give_the_heads(network):
    torch.manual_seed(0)
    graph_module, image = fold(network(), (24, 32)), torch.randn(2, 3, 24, 32)
    heads = {node.name: node for node in graph_module.graph.nodes}
    units = block_units(graph_module)
    assert len(units) > 3
    with torch.no_grad():
        whole = graph_module(image)
        for unit in units:
            run = StretchToHeads(graph_module, graph_module, unit)
            draw = ActivationCache(graph_module, graph_module, image, 1.0).open(run.unit, False)
            inputs, targets = draw(torch.arange(2))
            given = run(inputs)
            assert set(given) == set(targets) <= set(heads)
            for name, value in given.items():
                assert torch.equal(value, targets[name]), (unit.name, name)
            found = sorted(float(v.sum()) for v in given.values())
            assert found == sorted(float(v.sum()) for v in whole.values())


# A layer knows nothing of what comes after it: it wins the least.
@pytest.mark.parametrize(
    ("unit", "most"),
    [("layer", 0.9), ("block", 0.6), ("network", 0.6), ("both", 0.6), ("block on heads", 0.6)],
)
def test_learning_beats_nearest_rounding(case, unit, most):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(
        unit="network" if unit == "both" else unit.split()[0],
        focus="soft" if unit == "block on heads" else "off",
        block_steps=30 if unit == "both" else 0,
        steps=80,
        batch=6,
        lr_rounding=3e-2,
        lr_steps=1e-2,
        drop=0.0,
        temperature=0.02,
    )
    learned = reconstruct(graph_module, table, frames, recipe, UnitLoss())
    assert error(graph_module, learned, frames) < most * error(graph_module, table, frames)
    for name, levels in learned.rounded.items():
        assert np.abs(levels.astype(int) - table.rounded[name]).max() <= 1


def test_rounding_first_keeps_steps_until_the_second_pass(case):
    recipe = ReconstructionRecipe(unit="block", order="rounding_first", steps=3, steps_after=2)
    first, second = phases(recipe)
    assert first.learn_rounding and not first.learn_steps
    assert second.learn_steps and not second.learn_rounding and second.steps == 2


def test_the_same_seed_gives_the_same_digest_and_another_does_not(case):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(steps=6, batch=3)
    digests = [
        reconstruct(graph_module, table, frames, recipe, UnitLoss(), seed).digest()
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_blocks_come_before_the_network_and_leave_the_roundings_open(case):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(steps=9, block_steps=4, batch=3, focus="soft", temperature=0.02)
    blocks, network = phases(recipe)
    assert (blocks.unit.value, blocks.steps, blocks.temperature) == ("block", 4, 1.0)
    assert (network.unit.value, network.steps, network.focus.value) == ("network", 9, "soft")
    seen = []

    class Watched(UnitLoss):
        def __call__(self, step, out, target):
            seen.append((step, set(out)))
            return super().__call__(step, out, target)

    learned = reconstruct(graph_module, table, frames, recipe, Watched())
    assert [step for step, _ in seen] == list(range(9))  # the blocks are not the heads' business
    assert seen[0][1] == set(network_unit(graph_module).outputs)
    plain = dataclasses.replace(recipe, block_steps=0)
    assert learned.digest() != reconstruct(graph_module, table, frames, plain, UnitLoss()).digest()


@pytest.mark.parametrize(
    ("unit", "cut", "blocks", "focus"),
    [
        ("network", 7, 0, "off"),
        ("block", 17, 0, "off"),
        ("network", 7, 3, "off"),
        ("block", 17, 0, "soft"),
    ],
)
def test_a_run_that_was_cut_off_ends_as_a_whole_one(
    case, tmp_path, monkeypatch, unit, cut, blocks, focus
):
    graph_module, frames, table = case
    monkeypatch.setattr("calibrators.reconstruct.SAVE_EVERY_S", 0.0)
    recipe = ReconstructionRecipe(unit=unit, steps=12, batch=3, block_steps=blocks, focus=focus)
    whole = reconstruct(graph_module, table, frames, recipe, UnitLoss())

    class CutShort(UnitLoss):
        calls = 0

        def __call__(self, step, out, target):
            CutShort.calls += 1
            if CutShort.calls > cut:
                raise KeyboardInterrupt
            return super().__call__(step, out, target)

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        reconstruct(graph_module, table, frames, recipe, CutShort(), resume=state)
    assert state.is_file()
    resumed = reconstruct(graph_module, table, frames, recipe, UnitLoss(), resume=state)
    assert resumed.digest() == whole.digest()


@pytest.mark.parametrize(("unit", "blocks"), [("network", 0), ("block", 0), ("network", 3)])
def test_a_finished_run_whose_table_was_lost_is_not_learned_again(case, tmp_path, unit, blocks):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(unit=unit, steps=4, batch=3, block_steps=blocks)
    state = tmp_path / "state"
    whole = reconstruct(graph_module, table, frames, recipe, UnitLoss(), resume=state)

    class Never(UnitLoss):
        def __call__(self, step, out, target):
            pytest.fail("it learned again")

    again = reconstruct(graph_module, table, frames, recipe, Never(), resume=state)
    assert again.digest() == whole.digest() != table.digest()


class Diverging(UnitLoss):
    """Leaves the finite numbers at a step: by its value, or by its gradient alone."""

    def __init__(self, step, factor):
        super().__init__()
        self.at, self.factor = step, factor

    def __call__(self, step, out, target):
        total = super().__call__(step, out, target)
        if step < self.at:
            return total
        # The slope of a root at 0 has no bound: 0 by value.
        return self.factor * total if self.factor else total + (total - total).sqrt()


@pytest.mark.parametrize("unit", ["block", "network"])
@pytest.mark.parametrize(("factor", "told"), [(np.inf, 2), (np.nan, 2), (0, 3)])
@pytest.mark.parametrize(
    ("learn", "rates"),
    [
        ({}, "lr_rounding (0.01) / lr_steps (0.001)"),
        ({"learn_steps": False}, "lr_rounding (0.01)"),
        ({"learn_rounding": False, "learn_biases": True}, "lr_steps (0.001) / lr_biases (0.01)"),
    ],
)
def test_a_recipe_that_diverges_is_told_which_rates_to_lower(
    case, unit, factor, told, learn, rates
):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(unit=unit, steps=6, batch=3, **learn)
    message = f"step {told}: the loss is not finite; lower {rates} in the recipe"
    with pytest.raises(TrtLaneError, match=re.escape(message)):
        reconstruct(graph_module, table, frames, recipe, Diverging(2, factor))


def test_a_last_step_that_diverges_is_told_too(case):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(steps=3, batch=3)
    with pytest.raises(TrtLaneError, match="step 2: the loss is not finite"):
        reconstruct(graph_module, table, frames, recipe, Diverging(2, 0))


class Wearing(UnitLoss):
    """Counts for less with every call, as a loss that chooses heads by its past may."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.weight, self.calls, self.stop_after = 1.0, 0, stop_after

    def __call__(self, step, out, target):
        self.calls += 1
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.weight *= 0.5
        return self.weight * super().__call__(step, out, target)

    def state(self):
        return {"weight": self.weight}

    def restore(self, state):
        self.weight = state["weight"]


def test_what_the_loss_remembers_is_kept_when_a_run_is_cut_off(case, tmp_path, monkeypatch):
    graph_module, frames, table = case
    monkeypatch.setattr("calibrators.reconstruct.SAVE_EVERY_S", 0.0)
    recipe = ReconstructionRecipe(steps=8, batch=3)
    whole = reconstruct(graph_module, table, frames, recipe, Wearing())
    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        reconstruct(graph_module, table, frames, recipe, Wearing(stop_after=5), resume=state)
    resumed = Wearing()
    again = reconstruct(graph_module, table, frames, recipe, resumed, resume=state)
    assert resumed.weight == 0.5**8
    assert again.digest() == whole.digest()


def test_a_huge_seed_is_a_seed(case):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(steps=2, batch=3)
    assert reconstruct(graph_module, table, frames, recipe, UnitLoss(), seed=2**63 - 1).rounded


def test_a_damaged_or_foreign_state_is_ignored(case, tmp_path):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(steps=3, batch=3)
    state = tmp_path / "state"
    state.write_bytes(b"not a checkpoint")
    resumed = reconstruct(graph_module, table, frames, recipe, UnitLoss(), resume=state)
    assert resumed.digest() == reconstruct(graph_module, table, frames, recipe, UnitLoss()).digest()


def test_a_small_cache_computes_again_and_gives_the_same(case):
    graph_module, frames, table = case
    student = make_student(graph_module, table, ReconstructionRecipe()).network
    unit = block_units(graph_module)[1]
    indices = torch.tensor([3, 1])
    stored = ActivationCache(graph_module, student, frames, 4.0).open(unit, False)(indices)
    computed = ActivationCache(graph_module, student, frames, 0.0).open(unit, False)(indices)
    for one, other in zip(stored, computed, strict=True):
        assert all(torch.allclose(one[k], other[k], atol=1e-6) for k in one)


def test_impossible_recipes_are_refused():
    with pytest.raises(ValueError, match="nothing to learn"):
        ReconstructionRecipe(learn_rounding=False, learn_steps=False)
    with pytest.raises(ValueError, match="unit is layer"):
        ReconstructionRecipe(unit="layer", focus="soft")
    with pytest.raises(ValueError, match="expected one of"):
        ReconstructionRecipe(selection="sometimes")
    with pytest.raises(ValueError, match="steps"):
        dataclasses.replace(ReconstructionRecipe(), steps=0)


def test_learned_biases_travel_in_the_table_and_take_up_the_mean_error(case):
    graph_module, frames, table = case
    recipe = ReconstructionRecipe(
        unit="network", steps=80, batch=12, learn_rounding=False, learn_steps=False,
        learn_biases=True, lr_biases=0.03, drop=0.0,
    )  # fmt: skip
    learned = reconstruct(graph_module, table, frames, recipe, UnitLoss())
    assert set(learned.biases) == {n.replace(".weight", ".bias") for n in table.weights}
    assert learned.digest() != table.digest()
    assert error(graph_module, learned, frames) < error(graph_module, table, frames)
    with torch.no_grad():
        before, after = (
            quantised_network(graph_module, table),
            quantised_network(graph_module, learned),
        )
        mean = [
            float(
                (net(frames)["right"] - graph_module(frames)["right"]).mean((0, 2, 3)).abs().sum()
            )
            for net in (before, after)
        ]
    assert mean[1] < 0.7 * mean[0]
