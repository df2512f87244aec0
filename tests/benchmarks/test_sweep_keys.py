"""A kept shard is taken only for what would make the same rows: code and packages among it."""

import importlib.metadata
import shutil

import pytest

from benchmarks import cells as table_cells
from benchmarks.cell_specs import parse_model, parse_recipe
from benchmarks.sweep.plan import CODE, plan_cells, plan_shards, shard_path
from benchmarks.sweep.tasks import ROOT

DATA = "synthetic:test:2:410x148"


def shard_paths(work):
    model = parse_model(f"ufld@{DATA}@synthetic:calibration:2:410x148")
    cells = plan_cells([model], [parse_recipe("int8_minmax")], [0], ["cpu"], 2)
    (shard,) = plan_shards(DATA, 2, None)
    return [shard_path(cell, shard, work) for cell in cells]


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of what makes engines and rows, to change a file of."""
    for pattern in (*CODE, "benchmarks/**/*.py"):
        for path in ROOT.glob(pattern):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    monkeypatch.setattr(table_cells, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "benchmarks/accuracy.py",
        "benchmarks/sweep/tasks.py",
        "benchmarks/sweep/plan.py",
        "trt_lane/metrics/culane.py",
    ],
)
def test_rows_of_other_code_are_made_again(name, sources, tmp_path):
    before = shard_paths(tmp_path)
    assert shard_paths(tmp_path) == before
    with (sources / name).open("a", encoding="utf-8") as stream:
        stream.write("# changed\n")
    assert not set(before) & set(shard_paths(tmp_path))


def test_other_code_of_the_benchmarks_costs_no_shard(sources, tmp_path):
    before = shard_paths(tmp_path)
    (sources / "benchmarks" / "sweep" / "merged.py").write_text("")
    assert shard_paths(tmp_path) == before


@pytest.mark.parametrize("package", ["onnxruntime", "numpy", "opencv-python", "torch", "onnx"])
def test_rows_by_another_version_of_a_package_are_made_again(package, monkeypatch, tmp_path):
    before, found = shard_paths(tmp_path), importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.0.1" if name == package else found(name)
    )
    assert not set(before) & set(shard_paths(tmp_path))
