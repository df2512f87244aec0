"""What `make bench`, `bench-compare`, `roofline` and `sweep` refuse, and what they would run."""

from __future__ import annotations

import pytest
from run_make import make, needs_make

pytestmark = needs_make


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "MODEL=ufdl"], "did you mean ufld?"),
        (["bench", "TARGET=jetson-orion"], "did you mean jetson-orin?"),
        (["bench", "RECIPE=w4a4_mse"], "less than 8 bits"),
        (["bench-compare"], "no report NEW="),
        (["roofline", "MODEL=ufdl"], "did you mean ufld?"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, words, message):
    found = make(*words, f"BUILD={tmp_path}")
    assert found.returncode == 2
    assert message in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_bench_without_a_gpu_is_of_the_cpus_engine(tmp_path):
    shown = make("-n", "bench", "MODEL=ufld", f"BUILD={tmp_path}", "HAVE_GPU=").stdout
    assert f"{tmp_path}/ufld/int8_selective_focus/cpu/artifact.json" in shown


def test_a_recipe_and_a_target_choose_what_is_measured(tmp_path):
    shown = make("-n", "bench", "RECIPE=int8_mse", "TARGET=cpu", "FRAMES=7", f"BUILD={tmp_path}")
    folder = f"{tmp_path}/ufld/int8_mse/cpu"
    assert f"TARGET=cpu {folder}/artifact.json {tmp_path}/ufld/float.onnx" in shown.stdout


def test_sweep_passes_its_choices_on():
    shown = make("-n", "sweep", "MODELS=ufld", "RECIPES=int8_mse", "SEEDS=3", "RAY=local:2").stdout
    assert "benchmarks sweep 'ufld' 'int8_mse' '3' 'cpu'" in shown
    assert "--ray 'local:2'" in shown
