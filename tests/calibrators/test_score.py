from dataclasses import replace

import numpy as np
import pytest
import tiny_networks
from tiny_networks import folded, frames

from calibrators.calibrate import calibrate
from calibrators.losses import UnitLoss
from calibrators.recipe_files import load_recipe
from calibrators.reconstruct import reconstruct
from calibrators.score import as_network, cell, made_before, peak_memory_bytes, with_costs
from calibrators.shorten import shortened
from calibrators.stopwatch import Stopwatch

MINMAX = load_recipe("int8_minmax")


def made(tmp_path, recipe=MINMAX, count=3):
    graph_module, images = folded("downsample"), frames(count)
    with Stopwatch(tmp_path / "elapsed", goes_on=False) as watch:
        table = calibrate(graph_module, images, recipe)
    return graph_module, images, with_costs(table, watch)


def test_a_table_made_before_is_taken_for_the_same_recipe_weights_and_frames_only(tmp_path):
    graph_module, images, table = made(tmp_path)
    path = tmp_path / "scales.npz"
    assert made_before(path, MINMAX, graph_module, images) is None
    table.save(path)
    assert made_before(path, MINMAX, graph_module, images).digest() == table.digest()
    assert made_before(path, replace(MINMAX, seed=1), graph_module, images) is None
    assert made_before(path, MINMAX, graph_module, images[:2]) is None
    assert made_before(path, MINMAX, folded("downsample", seed=5), images) is None
    path.write_bytes(path.read_bytes()[:200])
    assert made_before(path, MINMAX, graph_module, images) is None


def test_a_table_without_costs_is_made_anew(tmp_path):
    graph_module, images, _ = made(tmp_path)
    path = tmp_path / "scales.npz"
    calibrate(graph_module, images, MINMAX).save(path)
    assert made_before(path, MINMAX, graph_module, images) is None


def test_a_cell_says_what_was_run_and_what_it_took(tmp_path):
    graph_module, _, table = made(tmp_path)
    found = cell(MINMAX, graph_module, table, {"metric": None})
    assert found["bits"] == [8, 8]
    assert not found["simulated"]
    assert found["learning"] is None
    assert found["calibration_frames"] == 3
    assert 0 < found["seconds"] < 60
    assert found["digests"]["scales"] == table.digest()


@pytest.mark.parametrize(("name", "units"), [("adaround", 5), ("qdrop", 3)])
def test_two_steps_of_a_baseline_at_four_bits_are_a_cell(tmp_path, name, units):
    recipe = shortened(load_recipe(f"w4a4_{name}"), 2 / 20000)
    graph_module, images, table = made(tmp_path, recipe)
    learned = reconstruct(graph_module, table, images, recipe.reconstruction, UnitLoss())
    learned = replace(learned, info=table.info)
    found = cell(recipe, graph_module, learned, {})
    assert found["simulated"]
    assert found["learning"]["units"] == units
    assert found["learning"]["steps"] == recipe.reconstruction.steps <= 2
    assert found["digests"]["scales"] != table.digest()


def test_a_torch_network_runs_on_arrays():
    heads = as_network(tiny_networks.made("chain"))(np.zeros((1, 3, 16, 24), np.float32))
    assert heads["out"].shape == (1, 4, 16, 24)


def test_peak_memory_never_falls_and_is_that_of_a_process_with_torch():
    before = peak_memory_bytes()
    block = np.ones(20_000_000)
    after = peak_memory_bytes()
    del block
    assert 50e6 < before <= after == peak_memory_bytes()
