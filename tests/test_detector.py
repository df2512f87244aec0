import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from memory_growth import growth_per_frame
from tiny_artifact import DECODER, IMAGE, make_artifact

from trt_lane.artifact import EngineArtifact
from trt_lane.detector import QUEUE, LaneDetector
from trt_lane.errors import TrtLaneError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("artifact")).folder


def frame(height=590, width=1640, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class FixedHeads:
    """A backend that answers with given heads."""

    def __init__(self, logits):
        self.logits = logits
        self.closed = False

    def infer(self, image):
        assert image.shape == (1, 3, 32, 96) and image.dtype == np.float32
        return {"logits": self.logits}

    def close(self):
        self.closed = True


def two_lanes():
    logits = np.zeros(DECODER.head_shape, np.float32)
    logits[2, :, 0] = logits[7, :, 1] = 20
    return logits


def test_lanes_come_from_the_decoder_on_the_networks_own_heads(folder):
    picture = frame()
    with LaneDetector.load(folder, threads=1) as detector:
        lanes, heads = detector.detect(picture), detector.heads(picture)
    np.testing.assert_array_equal(lanes.points, DECODER(**heads).points)
    assert heads["logits"].shape == DECODER.head_shape and heads["logits"].dtype == np.float32


@pytest.mark.parametrize("size", [(590, 1640), (295, 820), (1180, 3280)])
def test_lanes_are_in_the_frames_own_pixels(folder, size):
    detector = LaneDetector(EngineArtifact.load(folder), FixedHeads(two_lanes()))
    lanes = detector.detect(frame(*size))
    assert lanes.frame_hw == size and len(lanes) == 2
    expected = np.array([2.5, 7.5]) / 10 * size[1]
    np.testing.assert_allclose(lanes.points[:, 0, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(
        lanes.points[0, :, 1], np.array([580, 490, 400, 310]) / 590 * size[0]
    )


def test_another_aspect_ratio_is_refused_stretched_or_cropped(folder):
    artifact, picture = EngineArtifact.load(folder), frame(720, 1280)
    with pytest.raises(TrtLaneError, match="1280x720"):
        LaneDetector(artifact, FixedHeads(two_lanes())).detect(picture)
    stretched = LaneDetector(artifact, FixedHeads(two_lanes()), "stretch").detect(picture)
    np.testing.assert_allclose(stretched.points[0, 0], (320, 580 / 590 * 720), rtol=1e-3)
    cropped = LaneDetector(artifact, FixedHeads(two_lanes()), "crop").detect(picture)
    assert cropped.frame_hw == stretched.frame_hw == (720, 1280)
    height = 1280 * 590 / 1640
    top = (720 - height) * 2 / 3
    np.testing.assert_allclose(cropped.points[0, 0], (320, top + 580 / 590 * height), atol=1.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_heads_that_are_not_finite_give_no_lanes(folder, value):
    logits = two_lanes()
    logits[0, 0, 0] = value
    lanes = LaneDetector(EngineArtifact.load(folder), FixedHeads(logits)).detect(frame())
    assert len(lanes) == 0 and lanes.frame_hw == (590, 1640)


@pytest.mark.parametrize(
    "bad",
    [None, "frame.jpg", np.zeros((590, 1640), np.uint8), np.zeros((590, 1640, 3), np.float32),
     np.zeros((590, 1640, 4), np.uint8), np.zeros((0, 0, 3), np.uint8)],
)  # fmt: skip
@pytest.mark.parametrize("fit", ["error", "stretch", "crop"])
def test_what_is_no_frame_is_refused(folder, bad, fit):
    detector = LaneDetector(EngineArtifact.load(folder), FixedHeads(two_lanes()), fit)
    with pytest.raises(TrtLaneError):
        detector.detect(bad)


def test_a_closed_detector_says_so_and_closes_its_backend_once(folder):
    backend = FixedHeads(two_lanes())
    detector = LaneDetector(EngineArtifact.load(folder), backend)
    with detector:
        detector.detect(frame())
    assert backend.closed
    detector.close()
    with pytest.raises(TrtLaneError, match="closed"):
        detector.detect(frame())


def test_unknown_fit_and_impossible_threads_are_refused(folder):
    with pytest.raises(TrtLaneError, match="error, stretch, crop"):
        LaneDetector.load(folder, fit="zoom")
    with pytest.raises(TrtLaneError, match="threads is 0"):
        LaneDetector.load(folder, threads=0)


def test_a_detector_that_cannot_be_made_gives_its_backend_back(folder, tmp_path, monkeypatch):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setenv("TRT_LANE_PLUGINS", str(broken))
    backend = FixedHeads(two_lanes())
    monkeypatch.setattr("trt_lane.detector.open_backend", lambda *given: backend)
    with pytest.raises(TrtLaneError, match="cannot load"):
        LaneDetector.load(folder)
    assert backend.closed


def test_the_same_frame_gives_the_same_lanes_after_another(folder):
    with LaneDetector.load(folder, threads=1) as detector:
        first = detector.detect(frame(seed=1))
        detector.detect(frame(seed=2))
        again = detector.detect(frame(seed=1))
    np.testing.assert_array_equal(first.points, again.points)
    assert IMAGE.frame_hw == first.frame_hw


def test_a_vehicle_loads_neither_torch_nor_onnx_and_stays_small(folder):
    program = (
        "import sys, numpy as np\n"
        "from trt_lane.detector import LaneDetector\n"
        f"d = LaneDetector.load({str(folder)!r}, threads=1)\n"
        "d.detect(np.zeros((590, 1640, 3), np.uint8))\n"
        "print(sorted({'torch', 'onnx', 'tensorrt', 'engines'} & set(sys.modules)))\n"
        "status = open('/proc/self/status').read()\n"
        "print(status.partition('VmHWM:')[2].split()[0])\n"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is read from /proc, which only Linux has")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    loaded, peak_kib = done.stdout.splitlines()
    assert loaded == "[]"
    assert int(peak_kib) < 200 * 1024


class SlowHeads(FixedHeads):
    """Notes whether two callers are in it at once."""

    def __init__(self):
        super().__init__(two_lanes())
        self.inside = self.most = self.calls = 0

    def infer(self, image):
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.002)
        self.calls += 1
        self.inside -= 1
        return super().infer(image)


def test_any_number_of_threads_share_a_detector_and_get_their_own_lanes(folder):
    with LaneDetector.load(folder, threads=1) as detector:
        expected = [detector.detect(frame(seed=i)).points for i in range(8)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: detector.detect(frame(seed=i)).points, range(8)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    backend = SlowHeads()
    shared = LaneDetector(EngineArtifact.load(folder), backend)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(shared.detect, [frame(295, 820)] * 16))
    assert (backend.calls, backend.most) == (16, 1)


def test_detect_async_gives_the_same_lanes_in_order(folder):
    with LaneDetector.load(folder, threads=1) as detector:
        expected = [detector.detect(frame(seed=i)).points for i in range(6)]
        futures = [detector.detect_async(frame(seed=i)) for i in range(6)]
        for future, points in zip(futures, expected, strict=True):
            np.testing.assert_array_equal(future.result(timeout=10).points, points)


def test_detect_async_hands_errors_on_and_waits_instead_of_piling_up(folder):
    backend = SlowHeads()
    with LaneDetector(EngineArtifact.load(folder), backend) as detector:
        with pytest.raises(TrtLaneError, match="expected uint8"):
            detector.detect_async(None).result(timeout=10)
        futures = [detector.detect_async(frame(295, 820)) for _ in range(20)]
        assert sum(not f.done() for f in futures) <= QUEUE
        assert all(len(f.result(timeout=10)) == 2 for f in futures)


def test_closing_lets_the_frame_at_work_finish_and_cancels_the_rest(folder):
    detector = LaneDetector(EngineArtifact.load(folder), SlowHeads())
    futures = [detector.detect_async(frame(295, 820)) for _ in range(QUEUE)]
    detector.close()
    assert all(f.cancelled() or len(f.result(timeout=10)) == 2 for f in futures)
    with pytest.raises(TrtLaneError, match="closed"):
        detector.detect_async(frame())


def test_a_frame_that_comes_while_it_closes_begins_nothing_new(folder):
    """A second thread for the queue would outlive the detector."""
    refused, detector = [], LaneDetector(EngineArtifact.load(folder), SlowHeads())

    def once_more(_):
        try:
            detector.detect_async(frame(295, 820))
        except TrtLaneError as error:
            refused.append(str(error))

    futures = [detector.detect_async(frame(295, 820)) for _ in range(QUEUE)]
    futures[-1].add_done_callback(once_more)
    detector.close()
    assert futures[-1].cancelled() and "closed" in refused[0]


def test_detect_many_takes_frames_of_any_sizes_and_says_which_answer_is_none(folder):
    logits = two_lanes()
    detector = LaneDetector(EngineArtifact.load(folder), FixedHeads(logits))
    found = detector.detect_many([frame(), frame(295, 820), frame(1180, 3280)])
    assert [d.lanes.frame_hw for d in found] == [(590, 1640), (295, 820), (1180, 3280)]
    assert all(d.sound and len(d.lanes) == 2 for d in found)
    logits[3, 1, 0] = np.nan
    (bad,) = detector.detect_many([frame()])
    assert not bad.sound and len(bad.lanes) == 0
    assert detector.detect_many([]) == []


def test_memory_does_not_grow_with_frames(folder):
    with LaneDetector.load(folder, threads=1) as detector:
        assert growth_per_frame(detector.detect, frame(295, 820), frames=1500) < 200
