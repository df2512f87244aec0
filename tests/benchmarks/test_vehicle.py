import json

import pytest
from made_video import brightening, write_video

from benchmarks.__main__ import main
from benchmarks.vehicle import decoded, measure_run
from trt_lane.errors import TrtLaneError


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "drive.avi"
    return write_video(path, brightening(12, 59, 164, step=20), 25)


def test_a_run_is_split_into_its_network_and_the_rest(artifact, video):
    found = measure_run(artifact, decoded(video), 150, threads=1)
    assert found["frames"] == 150 and found["invalid"] == 0
    assert 0 < found["network_ms"] < found["frame_ms"] and found["rest_ms"] > 0
    assert len(found["resident_mb"]) == 3


def test_the_command_writes_what_it_prints(artifact, video, tmp_path, capsys):
    out = tmp_path / "vehicle.json"
    words = ["vehicle", artifact.folder, "--video", video, "--frames", 120, "--threads", 1,
             "--starts", 1, "--out", out]  # fmt: skip
    assert main(list(map(str, words))) == 0
    shown, report = capsys.readouterr().out, json.loads(out.read_text())
    assert "of the network" in shown and "first lanes after" in shown
    assert not report["starts"][0]["torch"] and report["starts"][0]["first_lanes_s"] > 0


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"x")
    with pytest.raises(TrtLaneError, match="not a video"):
        decoded(tmp_path / "x.mp4")
