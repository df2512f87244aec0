import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main
from training.cli import _parser, _recipe
from training.targets import targets_of
from trt_lane.model import get_model


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ufdl"], "no lane model 'ufdl'"),
        (["ufld", "ufdl"], "no lane model 'ufdl'"),
        (["ufld", "lstr.tusimple"], "no training target for the decoder 'lstr_curve'"),
        (["ufld", "ganet", "--weights", "a.safetensors"], "a.safetensors is for one model"),
        (["ufld", "--minutes", "-3"], "minutes is -3"),
        (["ufld", "--frames", "3"], "at most all 3 frames"),
        (["ufld", "--evaluate", "--weights", "absent.safetensors"], "absent.safetensors"),
        (["ufld", "--evaluate", "--out", "absent"], "no weights are bundled for ufld"),
    ],
)
def test_mistake_is_one_line_and_a_status(capsys, arguments, said):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


def test_steps_decide_where_the_recipe_itself_counts_minutes():
    recipe = targets_of(get_model("erfnet")).RECIPE
    assert recipe.minutes is not None
    changed = _recipe(recipe, _parser().parse_args(["erfnet", "--steps", "7"]))
    assert changed.minutes is None and changed.progress(7, seconds=0) == 1


def test_models_are_trained_in_turn_and_a_stop_ends_the_sequence(monkeypatch, tmp_path, capsys):
    answers = {"erfnet": tmp_path / "erfnet.safetensors", "ganet": None}
    asked = []

    def train(model, *rest):
        asked.append(model.name)
        return answers[model.name]

    monkeypatch.setattr("training.cli.train", train)
    assert main(["erfnet", "ganet", "laneatt", "--work", str(tmp_path)]) == 130
    assert asked == ["erfnet", "ganet"]
    captured = capsys.readouterr()
    assert "erfnet.safetensors" in captured.out and "interrupted" in captured.err
    assert captured.err.strip().count("\n") == 0


def test_ctrl_c_while_pytorch_loads_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt\n")
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run(
        [sys.executable, "-m", "training", "ufld"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 130
    assert found.stderr.strip().startswith("training: interrupted")
    assert found.stderr.strip().count("\n") == 0
