import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from made_video import write_video
from tiny_artifact import make_artifact

from trt_lane.cli import main
from trt_lane.datasets.culane_lines import read_lines
from trt_lane.detector import LaneDetector


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("artifact")).folder


def picture(height=295, width=820, seed=0):
    # Smooth, so that JPEG and a small video keep it.
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "in"
    for name, seed in (("a/1.png", 1), ("a/2.png", 2), ("b.jpg", 3)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), picture(seed=seed))
    return root


def test_line_files_and_pictures_lie_as_the_images_do(folder, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["detect", str(folder), "--images", str(images), "--out", str(out)]) == 0
    found = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert found == {
        "a/1.lines.txt", "a/2.lines.txt", "b.lines.txt",
        "a/1.lanes.png", "a/2.lanes.png", "b.lanes.jpg",
    }  # fmt: skip
    assert "3 frames" in capsys.readouterr().out
    with LaneDetector.load(folder) as detector:
        expected = detector.detect(picture(seed=1)).lanes()
    written = read_lines(out / "a/1.lines.txt")
    assert len(written) == len(expected)
    for lane, other in zip(written, expected, strict=True):
        np.testing.assert_array_equal(lane, other)
    assert cv2.imread(str(out / "a/1.lanes.png")).shape == (295, 820, 3)


def test_json_holds_every_frame_and_no_draw_makes_no_pictures(folder, images, tmp_path):
    out = tmp_path / "out"
    words = ["detect", str(folder), "--images", str(images), "--out", str(out)]
    assert main([*words, "--format", "json", "--no-draw", "--limit", "2"]) == 0
    assert [p.name for p in out.iterdir()] == ["lanes.json"]
    frames = json.loads((out / "lanes.json").read_text())["frames"]
    assert [f["name"] for f in frames] == ["a/1.png", "a/2.png"]
    assert all(f["width"] == 820 and f["height"] == 295 for f in frames)


def test_a_video_becomes_a_video_with_as_many_frames(folder, tmp_path):
    out = tmp_path / "out"
    pictures = [picture(294, 820, i) for i in range(5)]
    source = write_video(tmp_path / "drive.mp4", pictures, 10, "mp4v")
    words = ["detect", str(folder), "--video", str(source), "--out", str(out), "--format", "json"]
    assert main(words) == 0
    assert sorted(p.name for p in out.iterdir()) == ["drive.lanes.mp4", "lanes.json"]
    assert len(json.loads((out / "lanes.json").read_text())["frames"]) == 5
    capture, frames = cv2.VideoCapture(str(out / "drive.lanes.mp4")), 0
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    while capture.grab():
        frames += 1
    assert frames == 5


def test_other_aspect_ratios_need_a_fit_and_the_error_names_the_frame(folder, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "x.jpg"), picture(720, 1280))
    words = ["detect", str(folder), "--images", str(tmp_path / "x.jpg"), "--out", str(tmp_path)]
    assert main(words) == 2
    assert "x.jpg: frame is 1280x720" in capsys.readouterr().err
    for fit in ("stretch", "crop"):
        assert main([*words, "--fit", fit]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--images", "nowhere"],
        ["--images", "empty"],
        ["--images", "text.jpg"],
        ["--video", "text.jpg"],
        ["--video", "nowhere.mp4"],
        ["--images", "good.jpg", "--limit", "0"],
        ["--images", "good.jpg", "--threads", "0"],
    ],
)
def test_bad_input_is_one_line_and_nothing_half_written(
    folder, tmp_path, capsys, words, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("not a picture")
    cv2.imwrite("good.jpg", picture())
    assert main(["detect", str(folder), *words, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_an_output_that_cannot_be_written_is_one_line(folder, images, tmp_path, capsys):
    (tmp_path / "out").write_text("a file where the folder should be")
    words = ["detect", str(folder), "--images", str(images), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "cannot write" in capsys.readouterr().err


def test_info_says_what_the_artifact_is(folder, capsys):
    assert main(["info", str(folder)]) == 0
    assert "row_anchor" in capsys.readouterr().out
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "ufld"
    assert main(["info", str(folder / "none")]) == 2


def test_detect_imports_no_torch(folder, images, tmp_path):
    program = (
        "import sys\nfrom trt_lane.cli import main\n"
        f"status = main(['detect', {str(folder)!r}, '--images', {str(images)!r}, "
        f"'--out', {str(tmp_path / 'out')!r}])\n"
        "sys.exit(status or 'torch' in sys.modules or 'onnx' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0
