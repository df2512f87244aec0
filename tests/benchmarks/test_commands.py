"""What all commands of `python -m benchmarks` have in common."""

import argparse
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest

from benchmarks import commands, measure
from benchmarks.__main__ import main
from trt_lane.errors import TrtLaneError

NAMES = sorted(m.name for m in iter_modules(commands.__path__))


@pytest.mark.parametrize("name", NAMES)
def test_help_says_every_default(name):
    parser = argparse.ArgumentParser()
    import_module(f"benchmarks.commands.{name}").add_arguments(parser)
    for action in parser._actions:
        assert action.help and "  " not in action.help, action.dest
        if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):
            assert "default" in action.help, action.option_strings[0]
    parser.format_help()  # a stray % would fail here


def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(
    artifact, float_onnx, tmp_path, capsys, monkeypatch
):
    def measured(*args, **kwargs):
        raise AssertionError("measured before it was told")

    monkeypatch.setattr(measure, "_start", measured)
    engine, under = str(artifact.folder), tmp_path / "file"
    under.write_text("in the way")
    out = ["--out", str(under / "out.json")]
    onnx = ["--float-onnx", str(float_onnx)]
    for words in (
        ["run", engine, "--out", str(under)],
        ["ab", engine, engine, "--out", str(under)],
        ["alarm-rate", engine, *out],
        ["runtime", engine, *onnx, *out],
        ["peers-runtime", engine, *onnx, *out],
        ["plugins", *out],
        ["scorer-speed", *out],
        ["quant-table", "ufld", "int8_minmax", "--out", str(under)],
        ["steps-curve", "ufld", "--out", str(under)],
        ["sweep", "ufld", "int8_minmax", *out, "--work", str(tmp_path / "work")],
        ["vehicle", engine, "--video", "none.mp4", *out],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "cannot write" in error and error.count("\n") == 1, words


def test_a_float_graph_of_another_model_or_network_is_told_before_anything_is_measured(
    artifact, float_onnx, tmp_path, capsys, monkeypatch
):
    import json

    import onnx

    monkeypatch.setattr(measure, "_start", None)
    graph = onnx.load(float_onnx)
    heads = onnx.ModelProto()
    heads.CopyFrom(graph)
    heads.graph.output[0].name = "other"
    heads.graph.node[-1].output[0] = "other"
    for entry in graph.metadata_props:
        if '"model": "ufld"' in entry.value:
            entry.value = json.dumps({**json.loads(entry.value), "model": "lstr"})
    (tmp_path / "damaged").write_bytes(b"no graph")
    onnx.save(graph, tmp_path / "model")
    onnx.save(heads, tmp_path / "heads")
    for name, message in (
        ("model", "is of lstr, the engine of ufld"),
        ("heads", "has no output logits"),
        ("damaged", "is not a whole ONNX file"),
        ("gone", "no float ONNX"),
    ):
        words = [str(artifact.folder), "--float-onnx", str(tmp_path / name)]
        for command in ("run", "runtime", "peers-runtime"):
            assert main([command, *words]) == 2
            error = capsys.readouterr().err
            assert message in error and error.count("\n") == 1, (command, name)


def test_an_unknown_peer_is_told_before_frames_are_rendered(artifact, float_onnx, capsys):
    words = [str(artifact.folder), "--float-onnx", str(float_onnx), "--peers", "OpenVINO"]
    assert main(["peers-runtime", *words]) == 2
    assert "no peer 'OpenVINO'; known peers: PyTorch eager" in capsys.readouterr().err


def test_a_full_disk_below_the_frames_is_one_line(tmp_path, monkeypatch):
    def full(path, array):
        raise OSError("546120 requested and 30592 written")  # as numpy says it

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(TrtLaneError, match=r"cannot write .*30592 written; free 2 MB there"):
        measure._save(np.zeros((1, 590, 1640, 3), np.uint8), tmp_path / "frames.npy")


def test_alarm_rate_refuses_data_that_have_no_f1_before_it_measures(
    artifact, tmp_path, capsys, monkeypatch
):
    import cv2

    monkeypatch.setattr(measure, "_start", None)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((590, 1640, 3), np.uint8))
    assert main(["alarm-rate", str(artifact.folder), "--data", f"images:{tmp_path}"]) == 2
    assert "has no F1 to lose" in capsys.readouterr().err
