import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import pytest
from made_video import brightening, write_video

from trt_lane.artifact import EngineArtifact
from trt_lane.cli import main
from trt_lane.commands.run import _opener
from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.runtime.source import camera, video


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "drive.avi"
    return write_video(path, brightening(30, 59, 164, step=8), 25)


def run_words(folder, drive, *more):
    words = ["run", folder, "--video", drive, "--threads", "1", "--max-age", "60000", *more]
    return list(map(str, words))


def test_a_video_gives_a_line_per_frame_and_a_recording(folder, drive, tmp_path, capsys):
    words = run_words(folder, drive, "--json", "--record", tmp_path / "out.avi")
    assert main(words) == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(30))
    assert all(line["valid"] and line["age_ms"] >= line["latency_ms"] >= 0 for line in lines)
    assert "frames=30" in err and "invalid=0" in err
    assert cv2.VideoCapture(str(tmp_path / "out.avi")).read()[0]


def test_two_videos_are_two_cameras(folder, drive, capsys):
    assert main([*run_words(folder, drive, "--json"), "--video", str(drive)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [sum(line["camera"] == c for line in lines) for c in (0, 1)] == [30, 30]


def test_frames_and_loop_bound_each_other(folder, drive, capsys):
    assert main(run_words(folder, drive, "--json", "--loop", "--frames", "75")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(75))


def test_realtime_takes_the_files_own_time(folder, drive):
    start = time.monotonic()
    assert main(run_words(folder, drive, "--realtime")) == 0
    assert time.monotonic() - start > 1.0


def test_a_video_is_opened_once_for_the_look_at_it_and_the_first_reading(drive, monkeypatch):
    opened = []
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *how: opened.append(how) or capture(*how))
    spec = video(drive)
    for times in (1, 2):
        source, means = spec.open(), []
        while (picture := source.read()) is not None:
            means.append(picture.mean())
        source.close()
        assert len(means) == 30 and means[0] < means[1] < means[2] < means[-1]
        assert len(opened) == times


def test_an_engine_is_compared_with_its_digest_at_every_opening_and_once(
    folder, tmp_path, monkeypatch
):
    own = shutil.copytree(folder, tmp_path / "engine")
    compared = []
    monkeypatch.setattr(
        "trt_lane.artifact.sha256_file", lambda path: compared.append(path) or sha256_file(path)
    )
    artifact = EngineArtifact.load(own)
    opener = _opener(argparse.Namespace(threads=1, fit="crop"), artifact)
    opener().close()
    assert compared == [artifact.engine_path]
    opener().close()
    assert compared == [artifact.engine_path] * 2
    artifact.engine_path.write_bytes(artifact.engine_path.read_bytes() + b"\0")
    with pytest.raises(TrtLaneError, match="is not the file that was built"):
        opener()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--udp", "10.0.0.1:5600"], "--udp-allow-remote"),
        (["--ros2", "/lanes"], "no ROS 2 here"),
        (["--shared-memory", "../x"], "no name"),
        (["--rate", "-1"], "--rate is -1"),
        (["--rate", "1e-12"], "--rate is 1e-12; expected 0 for none"),
        (["--max-age", "inf"], "--max-age is inf; expected 0 to 1e9"),
        (["--record", "/nowhere/out.avi"], "no folder"),
        (["--record", "out.txt"], "out.txt is no name of a video; expected one of .avi"),
        (["--record", "out"], "out is no name of a video"),
        (["--record", "drive.avi"], "drive.avi is what is being read"),
        (["--record", "folder.avi"], "folder.avi is a folder"),
        (["--threads", "99999999999"], "threads is 99999999999; expected 1 to 1024"),
    ],
)
def test_wrong_wishes_are_one_line(folder, drive, capsys, more, message, monkeypatch):
    monkeypatch.chdir(drive.parent)
    (drive.parent / "folder.avi").mkdir(exist_ok=True)
    assert main(run_words(folder, drive, *more)) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_without_a_display_a_window_is_refused_in_one_line(folder, drive, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform != "linux":
        pytest.skip("windows need no display server here")
    assert main(run_words(folder, drive, "--window")) == 2
    err = capsys.readouterr().err
    assert "no display" in err and err.count("\n") == 1


def test_sources_that_are_none_are_refused(tmp_path, drive):
    for text in ("", "front", "/dev/sda", "file:///etc/passwd", "csi:0 ! filesink", "-1"):
        with pytest.raises(TrtLaneError, match="no camera"):
            camera(text)
    with pytest.raises(TrtLaneError, match="say --video"):
        camera(str(drive))
    (tmp_path / "no.mp4").write_bytes(b"x" * 100)
    with pytest.raises(TrtLaneError, match="not a video"):
        video(tmp_path / "no.mp4")
    with pytest.raises(TrtLaneError, match="no video file"):
        video(tmp_path / "none.mp4")


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://user:secret@10.0.0.5/stream",
        "rtsp://user:se@secret/x@10.0.0.5/stream",
        "RTSP://10.0.0.5/user=admin_password=secret",
        "rtsp://10.0.0.5?password=secret",
    ],
)
def test_a_password_in_a_streams_address_is_not_shown(address):
    spec = camera(address)
    assert spec.name.lower() == "rtsp://10.0.0.5" and spec.live
    with pytest.raises(TrtLaneError, match="no camera 'x") as refused:
        camera(f"x{address}")
    assert "secret" not in str(refused.value)


def test_a_camera_is_named_by_its_device():
    assert camera("2").name == camera("/dev/video2").name == "/dev/video2"


def test_without_an_installed_engine_the_way_to_one_is_said(drive, tmp_path, capsys):
    assert main(["run", "--root", str(tmp_path), "--video", str(drive)]) == 2
    assert "trt-lane install BUNDLE" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0.05, 0.6, 2.5])
def test_a_signal_in_any_state_ends_it_with_nothing_left_behind(
    folder, drive, tmp_path, number, after_s
):
    words = run_words(folder, drive, "--loop", "--realtime", "--record", tmp_path / "out.avi",
                      "--shared-memory", f"test{os.getpid()}")  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-m", "trt_lane", *words], stderr=subprocess.PIPE, text=True,
        env=environment, cwd=tmp_path,
    )  # fmt: skip
    time.sleep(after_s)
    child.send_signal(number)
    _, err = child.communicate(timeout=20)
    # Before Python has come to our handlers the signal's own status is all there is, and its own
    # words: no line of the console's or the command's.
    ours = any(line.startswith("trt-lane") for line in err.splitlines())
    early = not ours and "console.py" not in err
    assert child.returncode in (0, 128 + number, *((1, -number) if early else ())), err
    assert early or "Traceback" not in err
    assert not list(tmp_path.glob(".out*"))
    assert not os.path.exists(f"/dev/shm/trt_lane.test{os.getpid()}")
    if (tmp_path / "out.avi").exists():
        assert cv2.VideoCapture(str(tmp_path / "out.avi")).read()[0]
