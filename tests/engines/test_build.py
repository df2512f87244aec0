import importlib.util
import json
import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from qdq_graphs import pair, resnet, segmentation, transformer
from tiny_artifact import row_anchor_pair

from engines import build as build_module
from engines.__main__ import main
from engines.build import LAYERS_NAME, build, read_layers
from engines.card import KEY, read_card
from engines.layer_table import coverage
from engines.package import package
from engines.target import gpu_is_visible, load_target
from trt_lane.artifact import EngineArtifact
from trt_lane.building import child
from trt_lane.errors import TrtLaneError

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None or platform.machine() != "x86_64",
    reason="tensorrt_rtx is not installed: pip install tensorrt-rtx-cu13 (x86-64)",
)


def saved(tmp_path, model):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


@needs_rtx
def test_rtx_builds_a_real_engine_with_every_layer_in_int8(tmp_path):
    path = saved(tmp_path, pair(resnet, dtype=np.float16).qdq)
    seen = []
    result = build(path, load_target("rtx"), tmp_path, progress=lambda *state: seen.append(state))
    found = coverage(result.table)
    assert found.share == 1 and found.total_macs > 0 and not found.not_int8
    assert result.engine.stat().st_size > 10_000 and result.compute_capabilities == (86, 89, 120)
    assert any(share is not None for _, share, _ in seen)
    assert "Layers:" in result.log.read_text()
    assert read_layers(result.layers) == result.table
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.onnx", "engine.rtx", "layers.json", "build.log",
    }  # fmt: skip


@needs_rtx
def test_rtx_runs_linear_layers_in_int8_and_attention_in_float(tmp_path):
    path = saved(tmp_path, pair(transformer, dtype=np.float16).qdq)
    found = coverage(build(path, load_target("rtx"), tmp_path).table)
    assert found.share == 1 and found.activation_macs > 0


@needs_rtx
def test_a_layer_that_rtx_runs_in_float_is_named_with_the_reason(tmp_path):
    path = saved(tmp_path, pair(segmentation, dtype=np.float16).qdq)
    found = coverage(build(path, load_target("rtx"), tmp_path).table)
    assert 0.8 < found.share < 1
    assert [("ConvTranspose" in reason) for _, reason in found.not_int8] == [True]


@needs_rtx
def test_a_float_graph_has_no_int8_at_all(tmp_path):
    path = saved(tmp_path, pair(resnet).float_model)
    assert coverage(build(path, load_target("rtx"), tmp_path).table).share == 0


@needs_rtx
def test_a_builder_that_dies_is_an_error_with_its_last_words(tmp_path, monkeypatch):
    path = saved(tmp_path, pair(resnet, dtype=np.float16).qdq)
    (tmp_path / "engine.rtx").write_bytes(b"the old one")
    real = child.subprocess.Popen

    def dying(command, **options):
        script = "import os, sys; sys.stderr.write('assertion failed\\n'); os.abort()"
        return real([command[0], "-c", script], **options)

    monkeypatch.setattr(child.subprocess, "Popen", dying)
    with pytest.raises(TrtLaneError, match=r"SIGABRT.*assertion failed"):
        build(path, load_target("rtx"), tmp_path)
    assert (tmp_path / "engine.rtx").read_bytes() == b"the old one"
    assert not list(tmp_path.glob(".build*"))


@needs_rtx
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_that_does_not_fit_on_the_disk_is_no_half_read_layer_table(tmp_path):
    path = saved(tmp_path, pair(resnet, dtype=np.float16).qdq)
    (tmp_path / "build.log").symlink_to("/dev/full")
    with pytest.raises(TrtLaneError, match=r"No space left on device.*free space"):
        build(path, load_target("rtx"), tmp_path)
    assert not (tmp_path / "engine.rtx").exists()
    assert not list(tmp_path.glob(".build*"))


@needs_rtx
def test_what_the_parser_refuses_is_an_error_with_its_reason(tmp_path, monkeypatch):
    model = pair(resnet, dtype=np.float16).qdq
    model.graph.node[-1].op_type = "NotAnOperator"
    monkeypatch.setattr(build_module, "_check_operators", lambda *_: None)
    with pytest.raises(TrtLaneError, match=r"cannot read .*NotAnOperator"):
        build(saved(tmp_path, model), load_target("rtx"), tmp_path)


@pytest.mark.parametrize("domain", ["", "another"])
def test_a_plugin_node_is_refused_before_the_builder_sees_it(tmp_path, domain):
    model = pair(resnet, dtype=np.float16).qdq
    model.graph.node.append(
        helper.make_node("RowAnchor", ["fc2"], ["lanes"], "decode", domain=domain)
    )
    with pytest.raises(TrtLaneError, match=r"'decode' is .*RowAnchor.*without the decoder node"):
        build(saved(tmp_path, model), load_target("rtx"), tmp_path)


@pytest.mark.skipif(gpu_is_visible(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["jetson-orin", "jetson-thor", "drive-orin", "rtx4090", "local"])
def test_a_target_that_must_be_built_on_the_device_says_what_to_run_there(tmp_path, name):
    path = saved(tmp_path, pair(resnet, dtype=np.float16).qdq)
    bundle = rf"make bundle .*TARGET={name}, there: trt-lane install"
    with pytest.raises(TrtLaneError, match=rf"{bundle}.*python -m engines build .*--target {name}"):
        build(path, load_target(name), tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x09" + b"x" * 50])
@pytest.mark.parametrize("name", ["cpu", "rtx"])
def test_a_file_that_is_no_onnx_is_one_clear_error(tmp_path, content, name):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(TrtLaneError, match="ONNX file"):
        build(path, load_target(name), tmp_path)
    with pytest.raises(TrtLaneError, match="no ONNX file"):
        build(tmp_path / "none.onnx", load_target(name), tmp_path)


@pytest.mark.parametrize("out", ["afile", "afile/engine"])
def test_a_place_that_cannot_be_a_folder_is_one_clear_error(tmp_path, out):
    path = saved(tmp_path, pair(resnet).qdq)
    (tmp_path / "afile").write_text("keep")
    with pytest.raises(TrtLaneError, match=r"cannot write .*afile"):
        build(path, load_target("cpu"), tmp_path / out)
    assert (tmp_path / "afile").read_text() == "keep"


def test_the_cpu_engine_runs_integers_and_states_added_rounding(tmp_path):
    found = pair(resnet)
    result = build(saved(tmp_path, found.qdq), load_target("cpu"), tmp_path, maxima=found.maxima)
    assert coverage(result.table).share == 1
    assert len(result.notes) == 3 and "RMS" in result.notes[0]


def test_a_cpu_layer_left_in_float_is_in_the_table_with_its_reason(tmp_path):
    found = pair(segmentation)
    result = build(saved(tmp_path, found.qdq), load_target("cpu"), tmp_path, maxima=found.maxima)
    ((name, reason),) = coverage(result.table).not_int8
    assert name.startswith("n_out") and "output" in reason


def test_the_build_command_writes_a_whole_artifact_and_inspect_reads_it(tmp_path, capsys):
    path = saved(tmp_path, row_anchor_pair().qdq)
    out = tmp_path / "art"
    assert main(["build", str(path), "--target", "cpu", "--out", str(out)]) == 0
    assert EngineArtifact.load(out).model == "ufld"
    capsys.readouterr()
    assert main(["inspect", str(out), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["total_macs"] == sum(r["macs"] for r in values["layers"])
    assert main(["inspect", str(out), "--require", "1"]) == 0
    assert "QLinearConv" in capsys.readouterr().out


def test_inspect_fails_below_the_required_share(tmp_path, capsys):
    path = saved(tmp_path, row_anchor_pair().float_model)
    assert main(["build", str(path), "--target", "cpu", "--out", str(tmp_path)]) == 0
    assert EngineArtifact.load(tmp_path).precision == "fp32"
    assert main(["inspect", str(tmp_path), "--require", "0.9"]) == 1
    assert "90.00% are required" in capsys.readouterr().err


def test_an_onnx_of_unknown_origin_is_built_but_gets_no_sidecar(tmp_path, capsys):
    path = saved(tmp_path, pair(resnet).qdq)
    assert main(["build", str(path), "--target", "cpu", "--out", str(tmp_path)]) == 2
    assert "python -m engines export" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["build", "x.onnx", "--out", "o", "--target", "toaster"],
        ["build", "x.onnx", "--out", "o", "--target", "cpu"],
        ["inspect", "nothing"],
        ["inspect", "nothing", "--require", "7"],
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    "content", ["{}", '{"schema": 9, "layers": []}', "[]", '{"schema": 1, "layers": [5]}', "nope"]
)
def test_a_damaged_layer_table_is_refused(tmp_path, content):
    (tmp_path / LAYERS_NAME).write_text(content)
    with pytest.raises(TrtLaneError):
        read_layers(tmp_path / LAYERS_NAME)


def test_a_graph_of_another_shape_than_its_card_is_refused(tmp_path):
    found = row_anchor_pair()
    result = build(saved(tmp_path, found.qdq), load_target("cpu"), tmp_path, maxima=found.maxima)
    found.qdq.graph.output[0].type.tensor_type.shape.dim[1].dim_value += 1
    path = saved(tmp_path, found.qdq)
    with pytest.raises(TrtLaneError, match="outputs"):
        package(result, path, read_card(found.qdq), load_target("cpu"))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": "ufld"}'])
def test_a_damaged_card_is_refused(text):
    model = pair(resnet).qdq
    assert read_card(model) is None
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, text
    with pytest.raises(TrtLaneError, match="damaged"):
        read_card(model)


def test_tensorrt_engines_belong_to_the_version_that_built_them():
    assert load_target("local").recipe.runtime_range("10.3.0.26") == ("10.3.0", "10.3.1")
    assert load_target("rtx").recipe.runtime_range("1.7.1.116") == ("1.7", "1.8")
    assert load_target("cpu").recipe.runtime_range("1.32.0") == ("1.18", "2")
