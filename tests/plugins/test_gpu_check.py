"""The driver of `make gpu-check`, tried as far as a machine without a GPU allows; and on one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import gpu_check
import numpy as np
import onnx
import pytest
from cases import all_cases, decoder_names
from devices import CpuDevice, CudaDevice
from gpu_cases import all_times, check_decoder, check_graph, check_preprocess
from gpu_engines import all_engines, head_model
from plugin_builds import HERE
from test_preprocess import FORMATS, SPECS

from engines.attach import plugin_nodes
from engines.target import gpu_is_visible
from trt_lane.plugin_library import load_plugins

TYPICAL = [case for case in all_cases() if case.name == "typical"]
needs_no_gpu = pytest.mark.skipif(gpu_is_visible(), reason="there is a GPU here")


@pytest.fixture
def few(monkeypatch):
    """Only as many cases as show that all parts of the check work."""
    cases = tuple(c for c in all_cases() if c.name in ("typical", "one_more_than_full"))
    monkeypatch.setattr("gpu_cases.all_cases", lambda: cases[:2])
    monkeypatch.setattr("gpu_cases.TIMED_SPECS", {"shrunk": SPECS["shrunk"]})


def run(executed, folder, *words: str) -> tuple[int, dict]:
    out = folder / "report.json"
    argv = ["--library", str(executed.path), "--out", str(out), "--tools", *words]
    status = gpu_check.main([*argv, "--no-engines"], CpuDevice)
    return status, json.loads(out.read_text())


def test_report_says_what_was_compared_and_how_long_it_took(executed, few, tmp_path, capsys):
    status, report = run(executed, tmp_path)
    assert status == 0
    assert report["failures"] == []
    assert {c["case"] for c in report["checks"]} >= {f"preprocess-shrunk-{p}" for p in FORMATS}
    assert any(c["case"].startswith("graph-") for c in report["checks"])
    assert all(c["same_bits_as_host"] for c in report["checks"] if "same_bits_as_host" in c)
    assert report["times"] and all(row["us"] > 0 for row in report["times"])
    assert report["engines"] == {"left_out": "not asked for"}
    text = capsys.readouterr().out
    assert f"{len(report['checks'])} of {len(report['checks'])} cases give numpy's lanes" in text
    assert "engines: left out, not asked for" in text


def test_a_difference_fails_the_check_and_is_told(executed, few, tmp_path, capsys, monkeypatch):
    wrong = tuple(replace(case, overflow=4) for case in all_cases()[:1])
    monkeypatch.setattr("gpu_cases.all_cases", lambda: wrong)
    status, report = run(executed, tmp_path)
    assert status == 1
    assert any("overflow" in line for line in report["failures"])
    assert "FAILED" in capsys.readouterr().out


def test_a_finding_of_the_sanitizer_fails_the_check():
    report = {
        "checks": [],
        "engines": {},
        "sanitizer": {"memcheck": {"status": 9, "last_line": "x"}},
    }
    assert gpu_check.failures(report) == ["compute-sanitizer memcheck: x"]
    report["sanitizer"] = {"memcheck": {"left_out": "compute-sanitizer is not installed"}}
    assert gpu_check.failures(report) == []


def test_the_sanitizer_runs_the_cases_in_a_process_of_its_own(tmp_path, monkeypatch):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "$2 $5 $(basename $6) $(basename $7)"\nexit 9\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = gpu_check._sanitized("racecheck", tmp_path / "plugins.so")
    expected = f"racecheck {sys.executable} gpu_cases.py plugins.so"
    assert found == {"status": 9, "last_line": expected}


@needs_no_gpu
def test_without_a_gpu_it_says_so_and_ends():
    done = subprocess.run(
        [sys.executable, HERE / "gpu_check.py", "--only-device"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gpu-check: error: no NVIDIA GPU answers through pycuda")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("case", TYPICAL, ids=lambda c: c.id)
def test_every_plugin_has_a_network_of_its_own_for_the_builder(case):
    for given in (case, case.in_half()):
        model = head_model(given)
        onnx.checker.check_model(model)
        assert [node.op_type for node in plugin_nodes(model)] == [case.plugin]


def test_all_plugins_are_checked():
    assert {case.plugin for case in TYPICAL} == set(decoder_names())


# ---- on a GPU ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def device():
    device = CudaDevice()
    yield device
    device.close()


@pytest.fixture(scope="module")
def kernels():
    return load_plugins()


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("case", all_cases(), ids=lambda c: c.id)
def test_gpu_gives_the_lanes_of_numpy(device, kernels, case, half):
    assert check_decoder(device, kernels, case.in_half() if half else case)["difference"] == ""


@pytest.mark.gpu
@pytest.mark.parametrize("pixels", FORMATS)
@pytest.mark.parametrize("name", SPECS)
def test_gpu_gives_the_numbers_of_the_spec(device, kernels, name, pixels):
    assert check_preprocess(device, kernels, name, pixels)["difference"] == ""


@pytest.mark.gpu
@pytest.mark.parametrize("case", TYPICAL, ids=lambda c: c.id)
def test_gpu_replays_every_plugin_from_a_graph(device, kernels, case):
    assert check_graph(device, kernels, case)["difference"] == ""


@pytest.mark.gpu
def test_gpu_takes_microseconds(device, kernels):
    assert np.median([row["us"] for row in all_times(device, kernels)]) < 1000


@pytest.mark.gpu
def test_tensorrt_builds_and_runs_every_plugin(device, kernels):
    pytest.importorskip("tensorrt", reason="TensorRT's Python is not installed")
    assert [c for c in all_engines(device, kernels.path) if c["difference"]] == []
