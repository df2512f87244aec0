import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import RECIPE as TWO_PARTS
from tiny_training import tiny_model

from training import data
from training.checkpoint import load_checkpoint, save_checkpoint
from training.curve import draw_curve
from training.session import Places, _deferred_interrupt, train
from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.models._checkpoint import bundled_weights

ROOT = Path(__file__).resolve().parents[2]
RECIPE = replace(TWO_PARTS, parts=1)  # of two parts each would send its own Ctrl-C


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(data, "SHARD", 4)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")  # rendered frames are shared by the tests


def test_interrupted_training_goes_on_to_the_weights_of_an_uninterrupted_one(work, tmp_path):
    whole = train(tiny_model(), RECIPE, Places(work, tmp_path / "whole"), 1, restart=True)
    places = Places(work, tmp_path / "parts")
    interrupted = train(tiny_model(interrupt_at=9), RECIPE, places, 1, restart=True)
    assert interrupted is None
    assert not places.out.exists()
    assert 0 < load_checkpoint(work / "tiny" / "checkpoint.pt")["step"] < RECIPE.steps
    resumed = train(tiny_model(), RECIPE, places, 1)
    assert sha256_file(resumed) == sha256_file(whole)


def test_finished_training_leaves_listed_weights_and_a_picture(work, tmp_path):
    path = train(tiny_model(), RECIPE, Places(work, tmp_path), 1, restart=True)
    assert bundled_weights(tiny_model(), tmp_path) == path
    entry = (tmp_path / "weights.toml").read_text()
    for line in ('licence = "Apache-2.0"', "frames = 8", "steps = 20", "validation_f1 = "):
        assert line in entry
    assert cv2.imread(str(work / "tiny" / "curve.png")) is not None


def test_training_begins_with_the_trunk_unless_whole_weights_are_given(work, tmp_path):
    short = replace(RECIPE, steps=1, learning_rate=1e-9)
    made = tiny_model().network().state_dict()
    trunk = {"other.name": made["features.0.weight"] + 3}
    whole = {key: value + 5 if value.is_floating_point() else value for key, value in made.items()}
    for start, mean in ((None, 3), (whole, 5)):
        place = Places(work, tmp_path)
        path = train(tiny_model(), short, place, 1, start, trunk, restart=True)
        kernel = load_file(path)["features.0.weight"].float()
        assert kernel.mean().item() == pytest.approx(mean, abs=0.1)


def test_second_interrupt_stops_at_once():
    with pytest.raises(KeyboardInterrupt), _deferred_interrupt() as interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    with pytest.raises(KeyboardInterrupt):  # and the ordinary Ctrl-C is back
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


def test_checkpoint_of_another_recipe_is_refused_with_the_difference(work, tmp_path):
    train(tiny_model(interrupt_at=5), RECIPE, Places(work, tmp_path), 1, restart=True)
    other = replace(RECIPE, steps=30)
    with pytest.raises(TrtLaneError, match=r"steps 20, now 30.*--restart"):
        train(tiny_model(), other, Places(work, tmp_path), 1)


def test_damaged_checkpoint_is_an_error(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"step": 3, "weights": torch.zeros(1000)})
    assert load_checkpoint(path)["step"] == 3
    for damage in (path.read_bytes()[:-200], b"", b"text"):
        path.write_bytes(damage)
        with pytest.raises(TrtLaneError, match="delete it"):
            load_checkpoint(path)


def test_kill_while_saving_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    script = (
        "import os, sys, torch\n"
        "from training.checkpoint import save_checkpoint\n"
        "class Killer:\n"
        "    def __reduce__(self): os.kill(os.getpid(), 9)\n"
        "save_checkpoint(sys.argv[1], {'step': 2, 'x': torch.zeros(9), 'killer': Killer()})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", script, str(path)], env=environment)
    assert killed.returncode == -9
    assert load_checkpoint(path)["step"] == 1


@pytest.mark.parametrize("validations", [[], [(50, 0.4), (100, 0.8)]])
def test_curve_is_a_picture(tmp_path, validations):
    draw_curve(tmp_path / "c.png", "tiny", np.linspace(5, 1, 457), validations)
    assert cv2.imread(str(tmp_path / "c.png")).shape[2] == 3
