"""What `make engine` refuses at once, and what a change makes it do again."""

from __future__ import annotations

import platform
import re
import time
from pathlib import Path

import pytest
from run_make import ROOT, make, needs_make

from calibrators.budget.command import points
from calibrators.recipe_files import load_recipe

pytestmark = needs_make

STAGES = ("calibrate", "plan", "export float", "export", "build", "verify")
OUTPUTS = {
    "calibrate": "int8_minmax/all_int8.npz",
    "plan": "int8_minmax/scales.npz",
    "export": "int8_minmax/rtx/model.onnx",
    "build": "int8_minmax/rtx/artifact.json",
    "export float": "float.onnx",
    "verify": "int8_minmax/rtx/summary.json",
}
CHOICE = {"MODEL": "ufld", "RECIPE": "int8_minmax", "TARGET": "rtx"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("MODEL=ufdl", "no MODEL 'ufdl'; did you mean ufld?"),
        ("MODEL=", "MODEL is ''"),
        ("RECIPE=int8_mze", "did you mean int8_mse?"),
        ("TARGET=jetson-orion", "did you mean jetson-orin?"),
        ("DATA=images:my photos", "DATA is 'images:my photos'; expected one word"),
        ("DATA=images:it's", "expected one word"),
        ("WEIGHTS=nowhere.pth", "no file WEIGHTS=nowhere.pth"),
        ("FRAMES=0", "FRAMES is '0'; expected a whole number"),
        ("FRAMES=abc", "FRAMES is 'abc'; expected a whole number"),
        ("BUDGET=little", "BUDGET is 'little'"),
        ("BUDGET=500", "BUDGET is '500'; expected points of F1 or accuracy from 0 to 100"),
        ("BUDGET=100.5", "BUDGET is '100.5'"),
        ("BUDGET=-1", "BUDGET is '-1'"),
        ("BUDGET_MINUTES=0", "BUDGET_MINUTES is '0'; expected a whole number from 1, or inf"),
        ("BUDGET_MINUTES=inf inf", "BUDGET_MINUTES is 'inf inf'"),
        ("BUDGET_FRAMES=inf", "BUDGET_FRAMES is 'inf'; expected a whole number from 1."),
    ],
)
def test_wrong_choices_are_refused_before_anything_is_made(tmp_path, word, message):
    found = make("engine", word, *([] if word.startswith("BUILD") else [f"BUILD={tmp_path}"]))
    assert found.returncode == 2
    assert message in found.stderr
    assert found.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "word",
    [
        *(f"BUDGET={b}" for b in ("", "none", "0", "0.3", ".5", "007", "99.9", "100", "100.0")),
        *("BUDGET_MINUTES=inf", "BUDGET_MINUTES=60"),
    ],
)
def test_whatever_the_planner_takes_is_let_through(tmp_path, word):
    found = make("stamps", word, f"BUILD={tmp_path}")
    assert (found.returncode, found.stderr) == (0, "")
    told = {"BUDGET": "0.3", "BUDGET_MINUTES": "5", **dict([word.split("=")])}
    stamp = (tmp_path / "ufld" / "budget.stamp").read_text().split()
    assert stamp == [told["BUDGET"] or "none", "150", told["BUDGET_MINUTES"]]
    assert points(stamp[0]) is None or 0 <= points(stamp[0]) <= 100


@pytest.mark.skipif(platform.machine() == "aarch64", reason="such a device may build it")
@pytest.mark.parametrize("goal", ["engine", "build", "bench"])
@pytest.mark.parametrize("target", ["jetson-orin", "jetson-thor", "drive-orin"])
def test_what_only_the_device_can_build_is_refused_before_minutes_of_calibration(
    tmp_path, goal, target
):
    found = make(goal, f"TARGET={target}", f"BUILD={tmp_path}")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert f"make bundle MODEL=ufld TARGET={target}" in found.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGN", "PLUGINS_LIBRARY"])
def test_a_bundle_looks_for_its_files_before_minutes_of_calibration(tmp_path, name):
    found = make("bundle", f"{name}={tmp_path / 'nowhere'}", f"BUILD={tmp_path}")
    assert found.returncode == 2
    assert f"no file {name}=" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_goal_without_a_rule_is_an_error():
    """Without a recipe, a .PHONY name succeeds and does nothing."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = {
        name for line in re.findall(r"^\.PHONY:(.*)", text, re.MULTILINE) for name in line.split()
    }
    assert phony <= set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


@pytest.mark.parametrize("goal", ["engine", "export", "build", "bundle"])
def test_a_simulated_recipe_is_refused_before_minutes_of_calibration(tmp_path, goal):
    found = make(goal, "RECIPE=w4a4_mse", "MODEL=ufld", f"BUILD={tmp_path}")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "less than 8 bits" in found.stderr and "one of int8_aciq" in found.stderr
    assert "make quant-table MODELS='ufld' RECIPES='w4a4_mse'" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_exactly_the_recipes_that_are_not_deployable_are_refused():
    recipes = {path.stem for path in (ROOT / "calibrators" / "recipes").glob("*.toml")}
    simulated = {name for name in recipes if not load_recipe(name).deployable}
    told = make("--eval", "told: ; @echo $(SIMULATED)", "told").stdout.split()
    assert set(told) == simulated != set()


def test_help_names_every_documented_target():
    shown = make("help").stdout
    text = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^([a-z-]+):.*## ", text, flags=re.MULTILINE):
        assert f"  {target} " in shown


@pytest.fixture
def built(tmp_path):
    """A build whose stages are all done: empty files, in the order in which they are made."""
    assert make("stamps", *choice(tmp_path)).returncode == 0
    for name in OUTPUTS.values():
        path = tmp_path / "ufld" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        time.sleep(0.01)
    return tmp_path


def choice(build: Path, **changes: str) -> list[str]:
    return [f"{k}={v}" for k, v in {**CHOICE, "BUILD": str(build), **changes}.items()]


def stages_to_run(build: Path, **changes: str) -> list[str]:
    words = choice(build, **changes)
    assert make("stamps", *words).returncode == 0
    chosen = {**CHOICE, **changes}
    goal = f"{build}/{chosen['MODEL']}/{chosen['RECIPE']}/{chosen['TARGET']}/summary.json"
    shown = make("-n", goal, *words)
    assert shown.returncode == 0, shown.stderr
    found = re.findall(r'echo "==> (export +float|[a-z]+)', shown.stdout)
    return [re.sub(" +", " ", name) for name in found]


ALL_BUT_FLOAT = ["calibrate", "plan", "export", "build", "verify"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"FRAMES": "7"}, ["verify"]),
        ({"BUDGET_MINUTES": "2"}, ["plan", "export", "build", "verify"]),
        ({"BUDGET": "none"}, ["plan", "export", "build", "verify"]),
        ({"TARGET": "cpu"}, ["export", "build", "verify"]),
        ({"RECIPE": "int8_mse"}, ALL_BUT_FLOAT),
        ({"DATA": "synthetic:train"}, ALL_BUT_FLOAT),
    ],
)
def test_a_change_runs_again_what_depends_on_it(built, changes, expected):
    assert stages_to_run(built, **changes) == expected


def test_sensitivity_takes_options_of_its_command(built):
    words = ["-n", "sensitivity", *choice(built)]
    assert "--all-layers" not in make(*words).stdout
    shown = make(*words, "SENSITIVITY_OPTIONS=--all-layers")
    assert shown.returncode == 0, shown.stderr
    assert "--all-layers" in shown.stdout.splitlines()[-1].split()
    assert "SENSITIVITY_OPTIONS=--all-layers" in make("help").stdout


def test_other_weights_run_everything_again(built, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"weights")
    again = stages_to_run(built, WEIGHTS=str(tmp_path / "other.pth"))
    assert sorted(again) == sorted(STAGES)


@pytest.mark.parametrize(("family", "again"), [("laneatt", True), ("ufld", False)])
def test_a_file_that_the_family_reads_beside_its_checkpoint_counts_as_weights(
    tmp_path, family, again
):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"weights")
    words = choice(tmp_path, MODEL=f"{family}.r18_culane", WEIGHTS=str(folder / "model.pt"))
    stamp = tmp_path / f"{family}.r18_culane" / "weights.stamp"
    assert make("stamps", *words).returncode == 0
    before = stamp.read_text()
    (folder / "culane_anchors_freq.pt").write_bytes(b"counts")
    assert make("stamps", *words).returncode == 0
    assert (stamp.read_text() != before) == again


def test_a_touched_recipe_runs_again_what_depends_on_it(built):
    recipe = ROOT / "calibrators" / "recipes" / "int8_minmax.toml"
    words = choice(built)
    goal = f"{built}/ufld/int8_minmax/rtx/summary.json"
    shown = make("-n", "-W", str(recipe.relative_to(ROOT)), goal, *words).stdout
    assert re.findall(r'echo "==> (\w+)', shown) == ALL_BUT_FLOAT


def test_an_added_frame_counts_as_other_data(built, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "0.jpg").write_bytes(b"one")
    data = {"DATA": f"images:{frames}"}
    assert stages_to_run(built, **data) == ALL_BUT_FLOAT
    for name in OUTPUTS.values():
        (built / "ufld" / name).touch()
        time.sleep(0.01)
    assert stages_to_run(built, **data) == []
    (frames / "1.jpg").write_bytes(b"two")
    assert stages_to_run(built, **data) == ALL_BUT_FLOAT


@pytest.mark.parametrize(
    ("variable", "commands"), [("EXPORT_CODE", ("export", "lint")), ("BUILD_CODE", ("build",))]
)
def test_a_stage_is_made_again_when_any_of_its_own_code_changes(variable, commands):
    listed = make(f"--eval=listed: ; @echo $({variable})", "listed").stdout.split()
    assert listed and all((ROOT / path).is_file() for path in listed)
    # What a command reads its choices with decides nothing by itself.
    assert set(imported(f"engines/commands/{c}.py" for c in commands)) - set(listed) <= {
        "engines/target.py"
    }


def imported(paths):
    """Files of engines/ that files import, themselves left out, and what those import."""
    found, todo = set(), list(paths)
    while todo:
        text = (ROOT / todo.pop()).read_text(encoding="utf-8")
        names = re.findall(r"^ *from engines(?:\.| import )(\w+)", text, re.MULTILINE)
        new = {f"engines/{name}.py" for name in names} - found
        found |= new
        todo += new
    return found
