"""A calibration that ends before its table is saved keeps what it has learned."""

import pytest
from run_program import refused
from two_heads import two_heads, write_frames

from calibrators import cli, reconstruct
from calibrators.stopwatch import Stopwatch
from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json
from trt_lane.models._folded import fold
from trt_lane.scales import ScaleTable

RECIPE = """description = "a few steps"
frames = 4
[reconstruction]
unit = "block"
steps = 3
batch = 2
"""


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A command line that learns a little on a small network."""
    model, network = two_heads("")
    graph_module = fold(network, model.image.input_hw)
    monkeypatch.setattr(cli, "folded_model", lambda *_: (model, graph_module))
    (tmp_path / "few_steps.toml").write_text(RECIPE)
    frames = tmp_path / "frames"
    frames.mkdir()
    recipe = ["--recipe", str(tmp_path / "few_steps.toml")]
    return ["small", *recipe, "--data", write_frames(frames), "--out", str(tmp_path / "a.npz")]


@pytest.fixture
def learned(monkeypatch):
    """Steps of every unit that was learned, in order."""
    steps = []
    loss = reconstruct.UnitLoss.__call__

    def counted(self, step, out, target):
        steps.append(step)
        return loss(self, step, out, target)

    monkeypatch.setattr(reconstruct.UnitLoss, "__call__", counted)
    return steps


def test_a_table_that_could_not_be_saved_is_saved_next_time_without_learning(
    tmp_path, monkeypatch, capsys, words, learned
):
    def full_disk(self, path):
        raise TrtLaneError(f"cannot write {path}: No space left on device; free space")

    with monkeypatch.context() as patched:
        patched.setattr(ScaleTable, "save", full_disk)
        assert "No space left" in refused(capsys, cli.main, words)
    first = len(learned)
    assert first > 0
    taken_s = read_json(tmp_path / "a.elapsed")
    assert cli.main(words) == 0
    assert len(learned) == first
    table = ScaleTable.load(tmp_path / "a.npz")
    assert table.info["resumed"] and table.info["seconds"] >= round(taken_s, 3)
    assert not (tmp_path / "a.resume").exists() and not (tmp_path / "a.elapsed").exists()


def test_a_saved_table_leaves_no_state_and_the_next_run_learns_anew(tmp_path, words, learned):
    for _ in range(2):
        learned.clear()
        assert cli.main(words) == 0
        assert learned
        assert not (tmp_path / "a.resume").exists()


def test_a_recipe_that_learns_nothing_leaves_the_state_of_one_that_does(tmp_path, words):
    (tmp_path / "a.resume").write_bytes(b"hours of another recipe")
    words[words.index("--recipe") + 1] = "int8_minmax"
    assert cli.main(words) == 0
    assert (tmp_path / "a.resume").read_bytes() == b"hours of another recipe"


def test_a_full_disk_does_not_hide_the_error_of_the_work_behind_that_of_the_stopwatch(tmp_path):
    in_the_way = tmp_path / "elapsed"
    in_the_way.mkdir()
    with pytest.raises(TrtLaneError, match="what went wrong"), Stopwatch(in_the_way, False):
        raise TrtLaneError("what went wrong")
