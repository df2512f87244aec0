from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from benchmarks import plugin_speed
from benchmarks.__main__ import main
from benchmarks.plugin_speed import Speed
from trt_lane import plugin_library


def test_speed_says_how_many_times_as_fast():
    row = Speed("thing", np.full(9, 0.02), np.full(9, 0.001)).to_dict()
    assert row["times_as_fast"] == {"value": pytest.approx(20), "low": pytest.approx(20),
                                    "high": pytest.approx(20)}  # fmt: skip
    assert row["numpy_ms"] == pytest.approx(20)


def test_speed_compares_with_the_official_style_where_there_is_one():
    row = Speed("thing", *np.full((3, 9), [[0.02], [0.001], [0.05]])).to_dict()
    assert row["official_style_ms"] == pytest.approx(50)
    assert row["times_as_fast_as_official_style"]["value"] == pytest.approx(50)
    assert "official_style_ms" not in Speed("thing", *np.ones((2, 9))).to_dict()


def test_without_a_library_it_says_how_to_build_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plugin_library, "FOLDER", tmp_path)
    monkeypatch.delenv(plugin_library.VARIABLE, raising=False)
    assert main(["plugins"]) == 2
    assert "run: make plugins-host" in capsys.readouterr().err


def test_without_the_tests_it_says_where_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_speed, "CASES", tmp_path)
    with pytest.raises(plugin_speed.TrtLaneError, match="no cases in"):
        plugin_speed._cases()


def test_every_decoder_and_every_size_is_timed(tmp_path, monkeypatch, capsys):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here: g++")
    build = [f"BUILD={tmp_path}", "PYTHON=python3", "plugins-host"]
    root = plugin_speed.CASES.parents[1]
    done = subprocess.run(["make", "-C", root, *build], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(plugin_speed, "ROUND_S", 1e-4)
    out = tmp_path / "speed.json"
    library = tmp_path / "plugins" / plugin_library.HOST_NAME
    assert main(["plugins", "--library", str(library), "--rounds", "1", "--out", str(out)]) == 0
    names = [row["name"] for row in json.loads(out.read_text())["rows"]]
    assert {name.split()[0] for name in names} >= {"row_anchor", "preprocess"}
    assert set(names) >= {f"preprocess {name}" for name in plugin_speed.SPECS}
    assert "times as fast" in capsys.readouterr().out
