import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_cells import made_cell

from benchmarks import cells
from benchmarks.__main__ import main
from benchmarks.cell_specs import ModelSpec, parse_model, parse_recipe
from benchmarks.cells import Cell, Conditions, finished, run
from benchmarks.peers import Peer
from benchmarks.quant_table import quant_table
from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
FRAMES = [[0.9, 0, 0], [0.8, 0, 0]]


@pytest.fixture
def model(tmp_path) -> ModelSpec:
    """A model whose checkpoint is none, so that its cells fail."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"no checkpoint")
    return ModelSpec("ufld", weights, "synthetic:test:4", "synthetic:calibration:2")


@pytest.fixture
def conditions(tmp_path) -> Conditions:
    return Conditions(2, 2, threads=1, cache_gb=1.0, work=tmp_path / "work")


def keep(cell, conditions, **changed):
    held = {**made_cell(FRAMES, FRAMES), "code": cell.code(), **changed}
    write_json(cells._path(cell, conditions, ".json"), held)


def test_a_cell_is_another_when_anything_that_decides_it_is(model, conditions, tmp_path):
    recipe = parse_recipe("int8_qdrop", 0.01)
    other_weights = tmp_path / "other.pth"
    other_weights.write_bytes(b"others")
    cell = Cell(model, recipe, 0)
    identities = {
        cell.identity(conditions),
        Cell(model, recipe, 1).identity(conditions),
        Cell(model, replace(recipe, factor=0.02), 0).identity(conditions),
        Cell(model, parse_recipe("w4a4_qdrop", 0.01), 0).identity(conditions),
        Cell(model, Peer("onnxruntime minmax", ())).identity(conditions),
        Cell(replace(model, weights=other_weights), recipe, 0).identity(conditions),
        Cell(replace(model, data="synthetic:test:5"), recipe, 0).identity(conditions),
        Cell(replace(model, calibration_data="synthetic:train:2"), recipe).identity(conditions),
        cell.identity(replace(conditions, calibration_frames=1)),
        cell.identity(replace(conditions, score_frames=1)),
    }
    assert len(identities) == 10
    again = Cell(replace(model, weights=model.weights.resolve()), recipe, 0)
    assert again.identity(replace(conditions, threads=2)) == cell.identity(conditions)


def test_a_kept_cell_of_the_same_code_is_finished(model, conditions):
    cell = Cell(model, parse_recipe("int8_mse"))
    assert finished(cell, conditions) is None
    keep(cell, conditions)
    assert finished(cell, conditions)["old_code"] is False


def test_a_cell_of_other_code_is_run_again_or_kept_and_marked(model, conditions):
    cell = Cell(model, parse_recipe("int8_mse"))
    keep(cell, conditions, code="older")
    assert finished(cell, conditions) is None
    assert finished(cell, replace(conditions, any_code=True))["old_code"] is True


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_a_damaged_cell_is_run_again(model, conditions, text):
    cell = Cell(model, parse_recipe("int8_mse"))
    keep(cell, conditions)
    cells._path(cell, conditions, ".json").write_text(text)
    assert finished(cell, conditions) is None


@pytest.mark.parametrize("name", ["calibration_frames", "score_frames", "threads", "cache_gb"])
def test_conditions_that_cannot_be_are_refused(conditions, name):
    with pytest.raises(TrtLaneError, match=f"{name} is 0; expected"):
        replace(conditions, **{name: 0})


def test_a_peer_that_is_not_installed_fails_with_what_to_install(model, conditions):
    peer = Peer("modelopt max", ("no_such_module_here",))
    result = run(Cell(model, peer), conditions)
    assert result == {
        "failed": "no_such_module_here not installed; "
        "run: pip install --editable '.[workshop,peers]'"
    }


def test_failed_cells_stand_in_the_table_with_their_reason_and_are_not_kept(
    model, conditions, tmp_path
):
    said = []
    recipes = [parse_recipe("int8_minmax"), parse_recipe("int8_mse")]
    keep(Cell(model, recipes[1]), conditions)
    table = quant_table([model], recipes, [0], conditions, tmp_path / "out", said.append)
    failed, good = table["rows"]
    assert "weights.pth cannot be read as a checkpoint" in failed["failed"]
    assert good["value"] == pytest.approx(0.85)
    assert finished(Cell(model, recipes[0]), conditions) is None
    assert read_json(tmp_path / "out.json") == table
    assert "failed: calibrators: error:" in (tmp_path / "out.md").read_text()
    assert said[0] == "1 of 2 cells are done already"


def test_seeds_are_for_methods_that_learn(model, conditions, tmp_path):
    recipes = [parse_recipe("int8_mse"), parse_recipe("int8_qdrop", 0.01)]
    for cell in [Cell(model, recipes[0]), *(Cell(model, recipes[1], s) for s in (3, 4))]:
        keep(cell, conditions, seed=cell.seed)
    table = quant_table([model], recipes, [3, 4], conditions, tmp_path / "out", print)
    assert [r["seeds"] for r in table["rows"]] == [[0], [3, 4]]
    assert table["rows"][1]["method"] == "int8_qdrop (steps x 0.01)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ufdl", "int8_mse"], "no lane model 'ufdl'"),
        (["ufld", "int8_msee"], "no recipe 'int8_msee'"),
        (["ufld", "int8_mse", "a"], "seeds are 'a'"),
        (["ufld", ""], "no recipes or peers given"),
        (["", "int8_mse"], "no models given"),
        (["ufld", "int8_mse int8_mse"], "named twice"),
        (["ufld", "int8_mse", "--peers", "modelop max"], "no peer 'modelop max'; known peers"),
        (["ufld", "int8_mse", "--threads", "0"], "threads is 0"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(words, message, capsys):
    assert main(["quant-table", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.fixture
def namesake(tmp_path, monkeypatch):
    """A recipe of one's own under the name of one of the project's; nothing may run."""
    monkeypatch.setattr("benchmarks.quant_table.finished", lambda *_: pytest.fail("it began"))
    path = tmp_path / "w4a4_qdrop.toml"
    path.write_text('description = "mine"\n[reconstruction]\nunit = "block"\n')
    return str(path)


@pytest.mark.parametrize("factor", ["", ":0.01"])
def test_two_recipes_of_one_name_are_not_averaged_as_seeds(namesake, factor, capsys):
    recipes = f"w4a4_qdrop {namesake}{factor}"
    for words in (["quant-table", "ufld", recipes], ["steps-curve", "ufld", recipes]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "two recipes are called w4a4_qdrop: " in said and namesake in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["quant-table", "ufld", "w4a4_qdrop:0.02 w4a4_qdrop:0.02000000001"],
        ["steps-curve", "ufld", "w4a4_qdrop:0.01 w4a4_qdrop:0.02", "--factors", "1 2"],
    ],
)
def test_two_factors_of_one_name_are_refused_before_anything_runs(namesake, words, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "method w4a4_qdrop (steps x 0.02) is named twice" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("factor", "factors", "told"),
    [
        ("20", "1 10", "20 x 10 = 200; expected a product above 0, up to 100"),
        ("1e-200", "1e-200", "= 0; expected a product"),
        ("1", "nan", "1 x nan = nan"),
    ],
)
def test_a_product_of_factors_is_held_to_the_bound_of_one(namesake, factor, factors, told, capsys):
    assert main(["steps-curve", "ufld", f"w4a4_qdrop:{factor}", "--factors", factors]) == 2
    assert told in capsys.readouterr().err


def test_the_steps_curve_refuses_recipes_that_learn_nothing(capsys):
    assert main(["steps-curve", "ufld", "int8_mse"]) == 2
    assert "int8_mse: learns nothing" in capsys.readouterr().err
    assert main(["steps-curve", "ufld", "--factors", "0 1"]) == 2
    assert "--factors is '0 1'" in capsys.readouterr().err


def table_process(tmp_path, *recipes, seeds="0"):
    options = ["--calibration-frames", "2", "--score-frames", "2", "--threads", "1"]
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path), "--name", "t"]
    command = ["quant-table", "ufld", " ".join(recipes), seeds, *options, *places]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_table_that_was_killed_goes_on_where_it_was_and_leaves_no_process(tmp_path):
    first = table_process(tmp_path, "int8_minmax", "int8_qdrop:0.0005")
    folder = tmp_path / "work" / "cells"
    deadline = time.monotonic() + 300
    while not list(folder.glob("*.resume")):
        assert first.poll() is None, first.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    time.sleep(1)
    assert children
    for child in children:
        state = Path(f"/proc/{child}/stat")
        assert not state.is_file() or state.read_text().split()[2] == "Z"
    second = table_process(tmp_path, "int8_minmax", "int8_qdrop:0.0005")
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 0, said
    assert "1 of 2 cells are done already" in said
    rows = read_json(tmp_path / "t.json")["rows"]
    assert [r["resumed"] for r in rows] == [False, True]
    assert not list(folder.glob("*.resume")) + list(folder.glob("*.npz"))
    third = table_process(tmp_path, "int8_minmax", "int8_qdrop:0.0005")
    assert "2 of 2 cells are done already" in third.communicate(timeout=100)[0]


@pytest.mark.slow
def test_a_small_table_of_own_methods_and_a_peer_runs_from_the_bundled_weights(tmp_path):
    conditions = Conditions(2, 3, threads=1, cache_gb=1.0, work=tmp_path / "work")
    methods = [
        parse_recipe("int8_minmax"),
        parse_recipe("w4a4_adaround:0.0002"),
        Peer("onnxruntime minmax", ()),
    ]
    table = quant_table([parse_model("ufld")], methods, [0], conditions, tmp_path / "t", print)
    assert not any("failed" in r for r in table["rows"]), table["rows"]
    assert {r["float"] for r in table["rows"]} == {table["rows"][0]["float"]}
    assert [r["simulated"] for r in table["rows"]] == [False, True, False]
    assert table["rows"][1]["learning"]["steps"] == 2
    assert all(r["scored_frames"] == 3 for r in table["rows"])
    assert all(r["peak_memory_bytes"] > 1e8 for r in table["rows"])
