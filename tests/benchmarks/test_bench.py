"""The whole benchmark on a tiny engine: every stage, scenario and figure is really measured."""

import time

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.bench import FloatGraph
from benchmarks.bench_report import BenchmarkReport
from benchmarks.measure import ROOT, Conditions, Subject, measure
from benchmarks.other_code import OtherCode
from benchmarks.scenarios import camera, cameras, offline
from benchmarks.stopwatch import STAGES, StopwatchBackend, TimedDetector, timer_cost_ms
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit

FRAME = np.zeros((590, 1640, 3), np.uint8)


@pytest.fixture(scope="module")
def found(artifact, float_onnx, tmp_path_factory):
    """The command's report on two tiny starts."""
    out = tmp_path_factory.mktemp("bench")
    words = ["run", str(artifact.folder), "--float-onnx", str(float_onnx), "--out", str(out)]
    data = ["--data", "synthetic:test:4:410x148", "--frames", "3", "--threads", "1"]
    short = ["--starts", "2", "--most-starts", "2", "--seconds", "0.2"]
    assert main([*words, *data, *short, "--scenario-seconds", "0.1"]) == 0
    return BenchmarkReport.load(out)


def test_report_holds_stages_of_every_start(found):
    assert found.latency.stages == STAGES
    assert len(found.latency.starts) == 2
    parts = sum(found.latency.of(stage) for stage in STAGES[:-1])
    np.testing.assert_allclose(parts, found.latency.of("total"), atol=1e-3)


def test_report_says_what_it_was_measured_on(found, artifact):
    assert found.model == "ufld" and found.target == "cpu" and found.recipe == "int8_minmax"
    assert found.digests["engine"] == artifact.digests["engine"]
    states = found.environment.states
    assert [s.when for s in (states[0], states[-1])] == ["before", "after"]
    assert states[0].at_s < states[-1].at_s
    assert found.environment.own_cores > 0
    heavy = [layer for layer in found.layers if layer["macs"]]
    assert heavy and all(layer["ms"] > 0 for layer in heavy)


def test_an_engine_without_its_onnx_beside_it_still_tells_its_recipe(artifact, tmp_path):
    import shutil

    from benchmarks.bench import ONNX_NAME, _recipe
    from trt_lane.artifact import EngineArtifact

    alone = tmp_path / "alone"  # as `engines build model.onnx --out alone` leaves it
    shutil.copytree(artifact.folder, alone, ignore=shutil.ignore_patterns(ONNX_NAME))
    assert not (alone / ONNX_NAME).exists()
    assert _recipe(EngineArtifact.load(alone)) == "int8_minmax"


def test_report_has_the_accuracy_of_engine_and_float(found):
    assert len(found.accuracy.frames) == 3
    assert set(found.accuracy.forms) == {"engine", "float"}
    assert found.accuracy.figures()["agreement F1"]["float"] == 1.0
    assert len(found.pictures) == 3


def test_the_float_graph_takes_a_batch_image_by_image(artifact, float_onnx):
    graph = FloatGraph(float_onnx, artifact, 1)
    shape = (2, 3, *artifact.image.input_hw)
    images = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    both = graph.run(images)["logits"]
    np.testing.assert_array_equal(both[1], graph.infer(images[1:])["logits"])


def test_no_place_of_ones_own_disk_is_in_a_report(tmp_path, artifact, capsys):
    import cv2

    folder = tmp_path / "secret" / "photos"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "0.png"), FRAME)
    words = ["--data", f"images:{folder}", "--threads", "1", "--starts", "1", "--most-starts", "1"]
    few = ["--seconds", "0.1", "--scenario-seconds", "0", "--frames", "1"]
    assert main(["run", str(artifact.folder), *words, *few, "--out", str(tmp_path / "out")]) == 0
    for name in ("report.json", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "secret" not in text and "images:photos" in text
    capsys.readouterr()


def test_report_has_every_scenario(found):
    names = [s["scenario"] for s in found.scenarios]
    cameras_ = [f"camera {hz} Hz" for hz in (10, 20, 30, 60)]
    assert names == [
        "single stream", *cameras_, "2 cameras", "4 cameras", "6 cameras", "offline",
    ]  # fmt: skip


def test_a_planted_slow_down_is_in_the_total_and_nowhere_else(artifact):
    with TimedDetector.open(artifact, 1, slow_down=1.0) as slow:
        for _ in range(20):
            slow.detect(FRAME)
    rows = np.array(slow.rows)
    assert np.median(rows[:, 2] / rows[:, 3]) >= 0.5  # waiting counts as decoding
    np.testing.assert_allclose(rows[:, :3].sum(axis=1), rows[:, 3])


def test_starts_go_on_while_they_differ_up_to_a_limit(artifact):
    conditions = Conditions(1, starts=2, most_starts=3, seconds=0.02, noise=1e-9)
    (found,) = measure([Subject(artifact, conditions)], [FRAME])
    assert len(found.starts) == 3


def test_detector_gives_the_same_lanes_with_a_clock_around_it(artifact):
    from trt_lane.detector import LaneDetector

    frame = np.random.default_rng(1).integers(0, 256, FRAME.shape, np.uint8)
    with (
        TimedDetector.open(artifact, 1) as timed,
        LaneDetector.load(artifact.folder, threads=1, fit=Fit.CROP) as shipped,
    ):
        np.testing.assert_array_equal(timed.detect(frame).points, shipped.detect(frame).points)


def test_the_clocks_cost_is_far_below_a_frame():
    assert 0 < timer_cost_ms() < 0.05


def test_a_camera_waits_for_its_frames_and_a_slow_detector_is_late_for_all():
    quick = camera(lambda frame: None, [FRAME], 5, 0.8)
    assert quick["late_share"] == 0 and quick["frames"] == 4 and quick["dropped"] == 0
    slow = camera(lambda frame: time.sleep(0.25), [FRAME], 10, 0.8)
    assert slow["late_share"] == 1
    assert slow["dropped"] >= 4
    assert slow["p50_ms"] > 250


def test_several_cameras_take_the_time_of_all_of_them():
    found = cameras(lambda frame: time.sleep(0.002), [FRAME], 4, 0.05)
    assert found["p50_ms"] >= 8
    assert found["hz"] == pytest.approx(1e3 / found["max_ms"])


def test_offline_adds_up_all_detectors():
    def detect(frame):
        time.sleep(0.005)

    one = offline([detect], [FRAME], 0.1)["frames_per_s"]
    four = offline([detect] * 4, [FRAME], 0.1)["frames_per_s"]
    assert four > 2 * one


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--starts", "0"], "starts 0"),
        (["--seconds", "0"], "seconds 0.0"),
        (["--frames", "-1"], "frames is -1"),
        (["--float-onnx", "nowhere.onnx"], "no float ONNX nowhere.onnx"),
    ],
)
def test_mistakes_are_one_line(artifact, capsys, extra, message):
    assert main(["run", str(artifact.folder), *extra]) == 2
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


def test_a_process_that_cannot_measure_says_why(artifact, tmp_path):
    import shutil
    from dataclasses import replace

    broken = tmp_path / "broken"
    shutil.copytree(artifact.folder, broken)
    (broken / "engine.onnx").write_bytes(b"damaged")
    with pytest.raises(TrtLaneError, match="is not the file that was built"):
        measure([Subject(replace(artifact, folder=broken), Conditions(1, 1, 1, 0.1))], [FRAME])


def test_code_that_is_none_is_refused(artifact, tmp_path):
    with pytest.raises(TrtLaneError, match="no trt_lane code in"):
        Subject(artifact, Conditions(1), tmp_path)


def test_two_engines_are_measured_by_turns_and_compared(artifact, tmp_path, capsys):
    folder = str(artifact.folder)
    data = ["--data", "synthetic:test:3:410x148", "--frames", "2", "--threads", "1"]
    short = ["--starts", "4", "--most-starts", "4", "--seconds", "0.2", "--out", str(tmp_path)]
    status = main(["ab", folder, folder, *data, *short])
    assert status in (0, 2)  # the same engine; this machine may be too noisy to say so
    base, new = (BenchmarkReport.load(tmp_path / side) for side in ("base", "new"))
    assert len(base.latency.starts) == len(new.latency.starts) == 4
    assert base.environment == new.environment
    assert "total p50" in capsys.readouterr().out
    assert (tmp_path / "verdict.json").exists()


@pytest.fixture(scope="module")
def other_code(tmp_path_factory):
    """Another checkout, in which every lane is shifted by 40 px."""
    import shutil

    root = tmp_path_factory.mktemp("code")
    for name in ("benchmarks", "trt_lane", "engines"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = root / "trt_lane" / "detector.py"
    shifted = "\n\n_detect = LaneDetector.detect\n\n\ndef _shifted(self, frame):\n"
    shifted += "    lanes = _detect(self, frame)\n    lanes.points[..., 0] += 40\n"
    path.write_text(path.read_text() + shifted + "    return lanes\n\n\n"
                    "LaneDetector.detect = _shifted\n")  # fmt: skip
    return root


def test_another_checkout_is_judged_by_its_own_lanes(artifact, other_code):
    from trt_lane.detector import LaneDetector

    frame = np.random.default_rng(1).integers(0, 256, FRAME.shape, np.uint8)
    with LaneDetector.load(artifact.folder, threads=1, fit=Fit.CROP) as detector:
        ours = detector.detect(frame)
    for code, shift in ((ROOT, 0), (other_code, 40)):
        theirs = OtherCode(code, artifact, 1)
        try:
            found = [theirs.detect(frame) for _ in range(2)]
        finally:
            theirs.close()
        for lanes in found:
            assert lanes.frame_hw == ours.frame_hw and len(ours.scores) > 0
            np.testing.assert_array_equal(lanes.scores, ours.scores)
            np.testing.assert_allclose(lanes.points[..., 0], ours.points[..., 0] + shift, rtol=1e-6)


def test_code_that_cannot_detect_says_why(artifact, tmp_path):
    (tmp_path / "trt_lane").mkdir()
    (tmp_path / "trt_lane" / "__init__.py").write_text("raise RuntimeError('too old')")
    broken = OtherCode(tmp_path, artifact, 1)
    with pytest.raises(TrtLaneError, match=r"cannot run .*too old"):
        broken.detect(FRAME)
    broken.close()


def test_a_change_of_the_code_is_in_the_accuracy_of_ab(artifact, other_code, tmp_path, capsys):
    words = ["ab", *[str(artifact.folder)] * 2, "--base-code", str(other_code), "--frames", "2"]
    data = ["--data", "synthetic:test:3:410x148", "--threads", "1", "--out", str(tmp_path)]
    assert main([*words, *data, "--starts", "1", "--most-starts", "1", "--seconds", "0.1"]) == 2
    base, new = (BenchmarkReport.load(tmp_path / side) for side in ("base", "new"))
    rows = [r.accuracy.forms["engine"].culane for r in (base, new)]
    np.testing.assert_array_equal(rows[0][:, :2], rows[1][:, :2])
    assert base.environment.git == "" and base.environment.git != new.environment.git
    capsys.readouterr()


def test_engines_of_two_models_are_refused_before_anything_is_measured(artifact, tmp_path, capsys):
    from dataclasses import replace

    other = replace(artifact, folder=tmp_path / "other", model="lstr")
    other.folder.mkdir()
    (other.folder / artifact.engine).write_bytes(artifact.engine_path.read_bytes())
    other.save()
    out = tmp_path / "out"
    assert main(["ab", str(artifact.folder), str(other.folder), "--out", str(out)]) == 2
    assert "engines of lstr, ufld; expected one model" in capsys.readouterr().err
    assert main(["ab", *[str(artifact.folder)] * 2, "--gate", "F2", "--out", str(out)]) == 2
    assert "no figure 'F2'" in capsys.readouterr().err


class AskedBackend:
    """The CPU's backend with a GPU's answers: what a device says of its stages."""

    def __init__(self, backend):
        self.backend, self.asked = backend, 0

    def infer(self, image):
        return self.backend.infer(image)

    def time_stages(self):
        self.asked += 1

    @property
    def stages_ms(self):
        return {"h2d": 0.1, "network": 0.7, "d2h": 0.05}

    def close(self):
        self.backend.close()


def test_a_gpu_is_asked_for_its_stages_last_and_only_once(artifact):
    from trt_lane.backends import open_backend

    backend = AskedBackend(open_backend(artifact, 1))
    with TimedDetector(artifact, StopwatchBackend(backend)) as detector:
        detector.detect(FRAME)
        assert backend.asked == 0
        assert detector.device_rows([FRAME] * 3) == [[0.1, 0.7, 0.05]] * 3
    assert backend.asked == 1
    with TimedDetector.open(artifact, 1) as on_cpu:
        assert on_cpu.device_rows([FRAME]) == []


def test_stages_of_a_gpu_stand_in_the_summary_and_on_the_page():
    from dataclasses import replace

    from made_reports import made_latency, made_report

    from benchmarks.bench_text import text
    from benchmarks.html import page
    from benchmarks.latency import Latency

    made = made_latency(0)
    starts = tuple(replace(s, device_ms=[[1.0, 5.0, 0.5]] * 9) for s in made.starts)
    latency = Latency.from_dict(replace(made, starts=starts).to_dict())
    assert latency.summary()["device"]["network"]["p50"] == 5.0
    report = made_report(latency)
    assert "on GPU h2d" in text(report)
    assert "launch and wait" in page(report) and "d2h 0.500 ms" in page(report)


def test_what_a_backend_does_by_itself_is_timed_as_one_call():
    class TakesFrames:
        takes_frames = True

        def lanes(self, frames):
            time.sleep(0.002)
            return "lanes", [True] * len(frames)

    watch = StopwatchBackend(TakesFrames())
    assert watch.takes_frames
    assert watch.lanes([FRAME]) == ("lanes", [True])
    assert watch.end - watch.begin >= 0.002
