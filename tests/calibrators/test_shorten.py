from dataclasses import replace

import pytest

from calibrators.recipe_files import list_recipes, load_recipe
from calibrators.shorten import LARGEST_RATE, shortened
from trt_lane.errors import TrtLaneError

QDROP = load_recipe("int8_qdrop")


def test_published_steps_shrink_by_the_factor_and_rates_grow_by_its_root():
    learned = shortened(QDROP, 0.04).reconstruction
    assert (learned.steps, learned.batch) == (800, 32)
    assert learned.lr_rounding == pytest.approx(1e-3 * 5)
    assert learned.lr_steps == pytest.approx(4e-5 * 5)


def test_rates_stop_at_their_limit_and_never_fall():
    learned = shortened(QDROP, 1e-4).reconstruction
    assert learned.steps == 2
    assert learned.lr_rounding == LARGEST_RATE
    high = replace(QDROP, reconstruction=replace(QDROP.reconstruction, lr_rounding=0.05))
    assert shortened(high, 0.01).reconstruction.lr_rounding == 0.05


def test_more_steps_than_published_keep_the_rates():
    learned = shortened(QDROP, 2).reconstruction
    assert learned == replace(QDROP.reconstruction, steps=40000, steps_after=400)


def test_at_least_one_step_is_left():
    learned = shortened(load_recipe("int8_brecq"), 1e-6).reconstruction
    assert (learned.steps, learned.steps_after) == (1, 1)


def test_steps_of_the_blocks_before_the_network_shrink_along():
    few = replace(QDROP.reconstruction, unit="network", block_steps=100)
    halved = shortened(replace(QDROP, reconstruction=few), 0.5).reconstruction
    assert halved.block_steps == 50
    least = shortened(replace(QDROP, reconstruction=few), 1e-6).reconstruction
    assert least.block_steps == 1


def test_a_recipe_that_learns_nothing_and_a_factor_of_one_change_nothing():
    assert shortened(load_recipe("int8_mse"), 0.01) == load_recipe("int8_mse")
    assert shortened(QDROP, 1) is QDROP


@pytest.mark.parametrize("factor", [0, -1, 101, float("nan")])
def test_an_impossible_factor_is_refused(factor):
    with pytest.raises(TrtLaneError, match=r"steps factor is .*expected above 0"):
        shortened(QDROP, factor)


# SELECTIVE_FOCUS.md, "The baselines, exactly"; AdaRound's steps from Nagel et al. 2020, section 5.
@pytest.mark.parametrize(
    ("method", "unit", "steps", "drop", "lr_steps"),
    [
        ("adaround", "layer", 10000, 0.0, None),
        ("brecq", "block", 20000, 0.0, 4e-4),
        ("qdrop", "block", 20000, 0.5, 4e-5),
    ],
)
@pytest.mark.parametrize("bits", ["int8", "w8a4", "w4a8", "w4a4"])
def test_baselines_hold_the_published_numbers_at_every_width(
    bits, method, unit, steps, drop, lr_steps
):
    recipe = load_recipe(f"{bits}_{method}")
    learned = recipe.reconstruction
    assert recipe.frames == 1024
    assert (learned.unit.value, learned.steps, learned.batch) == (unit, steps, 32)
    assert (learned.drop, learned.warm_up, learned.regularisation) == (drop, 0.2, 0.01)
    assert learned.lr_rounding == 1e-3
    assert learned.learn_steps == (lr_steps is not None)
    assert lr_steps is None or learned.lr_steps == lr_steps


@pytest.mark.parametrize("name", list_recipes())
def test_the_name_of_a_recipe_says_its_bits(name):
    recipe = load_recipe(name)
    bits = (recipe.weights.bits, recipe.activations.bits)
    prefix = name.partition("_")[0]
    assert bits == ((8, 8) if prefix == "int8" else (int(prefix[1]), int(prefix[3])))
    assert ("simulation" in recipe.description) == (bits != (8, 8))
