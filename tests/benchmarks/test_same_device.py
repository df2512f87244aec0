from dataclasses import replace

import onnx
import pytest
from made_reports import made_latency, made_report
from tiny_artifact import row_anchor_pair

from benchmarks.__main__ import main
from benchmarks.roofline.device import Device, find_devices, list_devices
from benchmarks.roofline.same_device import check_device
from trt_lane.errors import TrtLaneError

AGX_BOARD = {"board": "NVIDIA Jetson AGX Orin Developer Kit", "gpu": "Orin (nvgpu)"}
# As NVML and the boards' device trees name them.
NAMED = {
    "agx-orin": AGX_BOARD,
    "orin-nano": {"board": "NVIDIA Jetson Orin Nano Developer Kit Super"},
    "orin-nx": {"board": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"},
    "drive-orin": {"board": "NVIDIA DRIVE AGX Orin"},
    "thor": {"board": "NVIDIA Jetson AGX Thor Developer Kit", "gpu": "NVIDIA Thor"},
    "h100": {"gpu": "NVIDIA H100 80GB HBM3"},
    "rtx3060": {"gpu": "NVIDIA GeForce RTX 3060"},
    "rtx4090": {"gpu": "NVIDIA GeForce RTX 4090"},
    "rtx5090": {"gpu": "NVIDIA GeForce RTX 5090"},
}


def device(name):
    (found,) = find_devices(name)
    return found


@pytest.mark.parametrize("meant", [d.name for d in list_devices()])
@pytest.mark.parametrize("facts", NAMED)
def test_a_report_is_held_against_the_device_that_it_names_alone(facts, meant):
    if facts == meant:
        assert check_device(device(meant), "local", NAMED[facts]) == ""
    else:
        with pytest.raises(TrtLaneError, match=f", which is {facts}; expected"):
            check_device(device(meant), "local", NAMED[facts])


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("rtx4090", "NVIDIA GeForce RTX 4090 Laptop GPU"),
        ("rtx4090", "NVIDIA GeForce RTX 4090 D"),
        ("rtx3060", "NVIDIA GeForce RTX 3060 Ti"),
        ("h100", "NVIDIA H100 PCIe"),
        ("h100", "NVIDIA H200"),
        ("agx-orin", "NVIDIA H200"),
    ],
)
def test_another_gpu_than_all_that_are_known_asks_for_its_own_peaks(name, gpu):
    with pytest.raises(TrtLaneError, match=r"or --target FILE.toml with the peaks"):
        check_device(device(name), "local", {"gpu": gpu})


def test_no_device_has_its_share_told_by_a_report_of_the_cpu_or_of_another_target():
    for wanted in list_devices():
        with pytest.raises(TrtLaneError, match="target cpu, so no share"):
            check_device(wanted, "cpu", NAMED[wanted.name])
    with pytest.raises(TrtLaneError, match="target jetson-thor; h100 is one of local"):
        check_device(device("h100"), "jetson-thor", {})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "the report does not name its device"),
        ({"gpu": None, "board": " "}, "the report does not name its device"),
        ({"gpu": "Orin (nvgpu)"}, "may be drive-orin, orin-nano, orin-nx too"),
        ({"board": "Seeed reComputer J4012"}, "names its board 'Seeed reComputer J4012', which"),
        ({"gpu": "Orin (nvgpu)", "board": "Seeed reComputer J4012"}, "may be drive-orin,"),
    ],
)
def test_what_cannot_be_told_is_said(facts, words):
    assert words in check_device(device("agx-orin"), "jetson-orin", facts)


def test_the_peaks_of_ones_own_file_hold_for_the_device_that_it_names():
    mine = Device("mine", "my H200", 1.0, 0.5, 1.0, 1.0, "measured")
    assert "mine's file no names" in check_device(mine, "rtx4090", {"gpu": "NVIDIA H200"})
    tuned = replace(mine, names=["RTX 4090"])
    assert check_device(tuned, "rtx4090", NAMED["rtx4090"]) == ""  # though a bundled one fits too
    named = replace(mine, names=["H200"])
    assert check_device(named, "local", {"gpu": "NVIDIA H200"}) == ""
    with pytest.raises(TrtLaneError, match="'NVIDIA H100 80GB HBM3', which is h100; expected my"):
        check_device(named, "local", {"gpu": "NVIDIA H100 80GB HBM3"})
    with pytest.raises(ValueError, match="names is 'H200'; expected a list"):
        replace(mine, names="H200")


def test_the_command_refuses_another_device_and_says_what_it_did_not_check(tmp_path, capsys):
    onnx.save(row_anchor_pair().qdq, tmp_path / "g.onnx")
    report = tmp_path / "report.json"
    words = ["roofline", str(tmp_path / "g.onnx"), "--target", "rtx4090", "--report", str(report)]
    for facts, status, told in (
        ({}, 0, "not checked: the report does not name its device\n"),
        (NAMED["rtx4090"], 0, ""),
        (NAMED["rtx3060"], 2, "'NVIDIA GeForce RTX 3060', which is rtx3060; expected GeForce RTX"),
    ):
        replace(made_report(made_latency(0), **facts), target="local").save(report)
        assert main(words) == status
        output = capsys.readouterr()
        assert told in (output.err if status else output.out)
        assert ("not checked" in output.out) == (not facts)
        assert not status or len(output.err.splitlines()) == 1
