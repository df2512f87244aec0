"""The whole way by the commands of `make engine`: weights and frames to lanes on pictures."""

from __future__ import annotations

import io
import json
import math
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from calibrators.cli import main as calibrate
from engines.__main__ import main as engines
from engines.summary import table
from trt_lane.cli import main as trt_lane
from trt_lane.console import guarded
from trt_lane.datasets import open_dataset
from trt_lane.detector import LaneDetector
from trt_lane.metrics.culane_files import score_files
from trt_lane.scales import ScaleTable

CALIBRATION, TEST = "synthetic:calibration:4:820x295", "synthetic:test:4:820x295"
RECIPE = "int8_minmax"


def run(main, *words) -> SimpleNamespace:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = guarded("test", lambda: main([str(word) for word in words]))
        except SystemExit as ended:  # what the parser refuses
            status = ended.code
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def files_of(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(
        folder=folder,
        scales=folder / "scales.npz",
        reference=folder / "reference.npz",
        float_onnx=folder / "float.onnx",
        int8_onnx=folder / "cpu" / "model.onnx",
        artifact=folder / "cpu",
    )


def export_words(files) -> tuple:
    return ("export", "ufld", "--scales", files.scales, "--target", "cpu", "--out", files.int8_onnx)


def build_words(files) -> tuple:
    words = ("--target", "cpu", "--scales", files.scales, "--out", files.artifact)
    return ("build", files.int8_onnx, *words)


def verify_words(files) -> tuple:
    graphs = ("--float-onnx", files.float_onnx, "--int8-onnx", files.int8_onnx)
    frames = ("--reference", files.reference, "--data", TEST, "--frames", 4)
    return ("verify", files.artifact, *graphs, *frames)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every stage once; what each said."""
    files = files_of(tmp_path_factory.mktemp("pipeline"))
    words = ("ufld", "--recipe", RECIPE, "--data", CALIBRATION, "--frames", 4)
    files.said = {
        "calibrate": run(calibrate, *words, "--out", files.scales, "--reference", files.reference),
        "float": run(engines, "export", "ufld", "--out", files.float_onnx),
        "export": run(engines, *export_words(files)),
        "lint": run(engines, "lint", files.int8_onnx),
        "build": run(engines, *build_words(files)),
        "verify": run(engines, *verify_words(files)),
    }
    return files


def test_lane_masks_are_compared_where_the_decoder_reads_one(made):
    summary = json.loads((made.artifact / "summary.json").read_text())
    assert "mask IoU" not in table(summary)
    for form, iou in (("float", 1.0), ("int8", 0.9634), ("engine", 0.9629)):
        assert summary["forms"][form]["mask_iou"] is None
        summary["forms"][form]["mask_iou"] = iou
    (row,) = [line for line in table(summary).splitlines() if "mask IoU" in line]
    assert row.split()[-3:] == ["1", "0.9634", "0.9629"]


def test_the_loss_is_told_with_its_interval(made):
    summary = json.loads((made.artifact / "summary.json").read_text())
    assert set(summary["forms"]["int8"]["points_to_float"]) == {"f1", "mf1"}
    for form in ("int8", "engine"):
        points = {"f1": {"value": -0.44, "low": -1.02, "high": 0.1}}
        summary["forms"][form]["points_to_float"] = points
    (row,) = [line for line in table(summary).splitlines() if "95 % interval" in line]
    assert row.split("points")[1].split() == ["-1.02", "…", "+0.10"] * 2


def test_figures_without_a_lane_are_said_to_say_nothing(made):
    summary = json.loads((made.artifact / "summary.json").read_text())
    assert "finds a lane" not in table(summary)
    for form in summary["forms"].values():
        assert form["lanes"] > 0
        form["lanes"] = 0
    assert "No form finds a lane on these frames" in table(summary)


@pytest.fixture
def copied(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "copy")
    return files_of(tmp_path / "copy")


def test_every_stage_succeeds_and_says_what_it_made(made):
    assert {stage: found.status for stage, found in made.said.items()} == dict.fromkeys(
        made.said, 0
    ), [found.err for found in made.said.values()]
    assert "4 frames" in made.said["calibrate"].out
    assert str(made.int8_onnx) in made.said["export"].out
    assert "lint: 0 findings" in made.said["lint"].out
    assert "INT8: 100.0%" in made.said["build"].out
    assert "Lane Distortion Score" in made.said["verify"].out


def test_summary_is_whole_and_true(made):
    text = (made.artifact / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in summary.json"))
    assert (summary["model"], summary["recipe"], summary["target"]) == ("ufld", RECIPE, "cpu")
    assert (summary["frames"], summary["passed"]) == (4, True)
    assert [c["float_type"] for c in summary["graph_checks"]] == ["fp32"]
    assert summary["graph_checks"][0]["tensors"] == 23
    assert summary["graph_checks"][0]["faults"] == []
    assert list(summary["forms"]) == ["float", "int8", "engine"]
    assert summary["int8_coverage"]["share"] == 1
    for form in summary["forms"].values():
        counts = form["score"]
        assert 0 < counts["f1"] <= 1
        assert form["agreement_f1"] > 0.5
        assert math.isfinite(form["distortion_px"])
    for name, place in summary["files"].items():
        assert Path(place).is_file(), name
    assert summary["bytes"]["engine"] == (made.artifact / "engine.onnx").stat().st_size
    assert summary["digests"]["scales"] == ScaleTable.load(made.scales).digest()
    assert (made.artifact / "summary.txt").read_text() == made.said["verify"].out
    picture = cv2.imread(str(made.artifact / "lanes.png"))
    assert picture is not None and picture.std() > 10


def test_detected_lanes_are_written_drawn_and_scored(made, tmp_path):
    frames, annotated = tmp_path / "frames", tmp_path / "annotated"
    dataset = open_dataset(TEST)
    frames.mkdir()
    annotated.mkdir()
    names = []
    for i, sample in enumerate(dataset):
        cv2.imwrite(str(frames / f"{i}.png"), sample.frame)
        lines = (" ".join(f"{v:.4f}" for v in lane.ravel()) for lane in sample.lanes.lanes())
        (annotated / f"{i}.lines.txt").write_text("".join(f"{line}\n" for line in lines))
        names.append(f"/{i}.png\n")
    (tmp_path / "list.txt").write_text("".join(names))
    found = run(trt_lane, "detect", made.artifact, "--images", frames, "--out", tmp_path / "found")
    assert found.status == 0, found.err
    height, width = dataset[0].frame.shape[:2]
    scored = score_files(
        tmp_path / "found", annotated, tmp_path / "list.txt", 0.5, (height, width), 15
    )
    with LaneDetector.load(made.artifact, threads=1) as detector:
        lanes = sum(len(detector.detect(sample.frame)) for sample in dataset)
    assert found.out.startswith(f"4 frames, {lanes} lanes")
    assert scored.total.tp + scored.total.fp <= lanes
    assert scored.total.tp > 0
    assert len(list((tmp_path / "found").glob("*.lanes.png"))) == 4


def test_the_same_command_gives_the_same_scales(made, tmp_path):
    words = ("ufld", "--recipe", RECIPE, "--data", CALIBRATION, "--frames", 4)
    assert run(calibrate, *words, "--out", tmp_path / "again.npz").status == 0
    assert ScaleTable.load(tmp_path / "again.npz").digest() == ScaleTable.load(made.scales).digest()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "cut": cut,
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no such thing\n"),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("words", "file"),
    [
        (build_words, "scales"),
        (verify_words, "int8_onnx"),
        (verify_words, "reference"),
        (verify_words, "artifact/artifact.json"),
        (verify_words, "artifact/engine.onnx"),
    ],
)
def test_damaged_files_are_one_line_and_leave_nothing(copied, words, file, damage):
    name, _, inside = file.partition("/")
    DAMAGES[damage](getattr(copied, name) / inside if inside else getattr(copied, name))
    before = sorted(copied.folder.rglob("*"))
    found = run(engines, *words(copied))
    assert found.status == 2
    assert found.err.count("\n") == 1
    assert sorted(copied.folder.rglob("*")) == before


def test_scales_of_other_weights_are_refused(copied, tmp_path):
    torch = pytest.importorskip("torch")
    from trt_lane.model import get_model

    other = tmp_path / "other.pth"
    torch.save(get_model("ufld").build().state_dict(), other)
    before = copied.int8_onnx.read_bytes()
    found = run(engines, *export_words(copied), "--weights", other)
    assert found.status == 2
    assert found.err.count("\n") == 1
    assert copied.int8_onnx.read_bytes() == before


@pytest.mark.parametrize("target", ["jetson-orin", "jetson-thor", "drive-orin", "rtx4090"])
def test_an_engine_of_another_device_says_what_to_run_there(copied, target):
    out = copied.folder / "there"
    found = run(engines, "build", copied.int8_onnx, "--target", target, "--out", out)
    assert found.status == 2
    assert f"python -m engines build model.onnx --target {target}" in found.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ufdl",), "did you mean 'ufld'"),
        (("ufld.r18_culan",), "did you mean 'ufld.r18_culane'"),
        (("ufld.r18_culane",), "no weights are bundled"),
        (("twinlitenet",), "no weights are bundled"),  # its one variant
        (("ufldv2",), "variants of ufldv2: ufldv2."),
        (("ufld", "--recipe", "int8_mze"), "did you mean 'int8_mse'"),
        (("ufld", "--data", "culan:/x"), "did you mean 'culane'"),
        (("ufld", "--data", "images:/no/such/folder"), "no folder"),
        (("ufld", "--frames", 0), "expected 1 or more"),
        (("ufld", "--frames", -1), "expected 1 or more"),
        (("ufld", "--weights", "/no/such.pth"), "no checkpoint"),
    ],
)
def test_wrong_words_to_calibrate_are_one_line(tmp_path, words, message):
    found = run(calibrate, *words, "--out", tmp_path / "scales.npz")
    assert found.status == 2
    assert message in found.err
    assert found.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_calibration_takes_grey_and_16_bit_and_other_shapes(tmp_path):
    rng = np.random.default_rng(0)
    frames = tmp_path / "frames"
    frames.mkdir()
    cv2.imwrite(str(frames / "grey.png"), rng.integers(0, 256, (200, 300), np.uint8))
    cv2.imwrite(str(frames / "deep.png"), rng.integers(0, 65536, (72, 128, 3), np.uint16))
    cv2.imwrite(str(frames / "tall.jpg"), rng.integers(0, 256, (640, 360, 3), np.uint8))
    words = ("ufld", "--recipe", RECIPE, "--data", f"images:{frames}")
    found = run(calibrate, *words, "--out", tmp_path / "scales.npz")
    assert found.status == 0, found.err
    assert "3 frames" in found.out


def test_a_reference_of_an_older_version_is_refused(copied):
    with np.load(copied.reference) as file:
        arrays = {name: file[name] for name in file.files if name != "schema"}
    np.savez(copied.reference, **arrays)
    found = run(engines, *verify_words(copied))
    assert found.status == 2
    assert "another version of trt_lane; calibrate again" in found.err
