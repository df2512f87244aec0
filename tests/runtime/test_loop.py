import gc
import threading
import time
import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
from memory_growth import resident_bytes
from scripted import Collector, Heads, frame, go, make_run, scripted, two_lanes

from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit
from trt_lane.runtime import engine as engine_module
from trt_lane.runtime import grabber as grabber_module
from trt_lane.runtime.engine import EngineGoneError
from trt_lane.runtime.loop import Limits
from trt_lane.runtime.mailbox import Captured
from trt_lane.runtime.outputs.overlay import Recorder
from trt_lane.runtime.result import Fault


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    """A camera and an engine are tried again after milliseconds."""
    monkeypatch.setattr(grabber_module, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(engine_module, "FIRST_RETRY_S", 0.01)


def faults(collector):
    return [r.fault for r in collector.results]


def test_every_frame_of_a_file_gives_one_result_in_order(folder):
    out = Collector()
    frames = [frame(value=i) for i in range(20)]
    health = go(make_run(folder, [scripted(frames, live=False)], [out], keep_all=True))
    assert [r.sequence for r in out.results] == list(range(20))
    assert all(r.valid and len(r.lanes) == 2 and r.latency_ms >= 0 for r in out.results)
    assert (health.frames, health.invalid) == (20, 0)


def test_a_slow_network_gets_the_newest_frame_and_the_rest_are_counted(folder):
    def slow(call):
        time.sleep(0.03)

    out = Collector(stop_after=5)
    frames = [frame(value=i % 256) for i in range(500)]
    run = make_run(folder, [scripted(frames)], [out], backends=lambda: Heads(slow))
    health = go(run)
    sequences = [r.sequence for r in out.results]
    assert sequences == sorted(set(sequences)) and sequences[-1] > 10
    assert health.dropped >= sequences[-1] - len(sequences)
    # Five hundred frames wait for nobody: without dropping, the last would be seconds old.
    assert all(r.latency_ms < 1000 for r in out.results)


def test_several_cameras_share_a_batch_and_keep_their_own_numbers(folder):
    out = Collector(stop_after=30)
    specs = [scripted([frame(value=i) for _ in range(200)]) for i in range(3)]
    go(make_run(folder, specs, [out]))
    assert {r.camera for r in out.results} == {0, 1, 2}
    for result, picture in zip(out.results, out.frames, strict=True):
        assert picture[0, 0, 0] == result.camera


def test_a_lost_camera_is_said_and_opened_again(folder, monkeypatch):
    monkeypatch.setattr("trt_lane.runtime.loop.SILENCE_S", 0.05)
    out = Collector(stop_after=60)
    spec = scripted([frame()] * 10, None, None, None, None, [frame()] * 200)
    run = make_run(folder, [spec], [out])
    health = go(run)
    found = faults(out)
    first = found.index(Fault.CAMERA_LOST)
    assert Fault.NONE in found[:first] and Fault.NONE in found[first:]
    assert health.cameras_lost == 1
    lost = next(r for r in out.results if r.fault is Fault.CAMERA_LOST)
    assert len(lost.lanes) == 0 and lost.age_ms(lost.finished_ns) >= 50
    later = [r.sequence for r in out.results if r.valid]
    assert later == sorted(set(later))


def test_a_camera_that_never_was_there_is_lost_from_the_start(folder, monkeypatch):
    monkeypatch.setattr("trt_lane.runtime.loop.SILENCE_S", 0.02)
    out = Collector(stop_after=3)
    go(make_run(folder, [scripted(None)], [out]))
    assert set(faults(out)) == {Fault.CAMERA_LOST}


@pytest.mark.parametrize(
    ("live", "waits", "expected"),
    [(True, True, []), (False, False, []), (True, False, [Fault.CAMERA_LOST])],
    ids=["a low rate or a slow network", "a slow file", "a silent camera"],
)
def test_a_camera_whose_frames_wait_is_not_lost(folder, monkeypatch, live, waits, expected):
    monkeypatch.setattr("trt_lane.runtime.loop.SILENCE_S", 30)
    out = Collector()
    run = make_run(folder, [scripted(live=live)], [out])
    now = time.monotonic_ns()
    run._last[0] = replace(run._last[0], captured_ns=now - 60 * 10**9)
    run._told_ns[0] = 0
    if waits:
        run._grabbers[0].mailbox.put(Captured(1, now, frame()))
    run._tell_of_silence()
    assert faults(out) == expected


@pytest.mark.parametrize("error", [cv2.error("unplugged"), MemoryError(), OSError(5, "I/O error")])
def test_a_driver_that_raises_is_a_lost_camera(folder, monkeypatch, error):
    monkeypatch.setattr("trt_lane.runtime.loop.SILENCE_S", 30)  # no moment of ours is a silence
    out = Collector(stop_after=15)
    spec = scripted([frame(), error], [frame()] * 9999)
    health = go(make_run(folder, [spec], [out]))
    assert health.cameras_lost == 1 and faults(out).count(Fault.NONE) >= 10


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((0, 0, 3), np.uint8), np.zeros((59, 164), np.uint8),
        np.zeros((59, 164, 3), np.float32), np.zeros((59, 164, 4), np.uint8), "torn",
        np.zeros((2, 2, 3), np.uint8), np.zeros((10, 10, 3), np.uint8),
    ],
)  # fmt: skip
def test_a_corrupt_frame_is_invalid_and_the_next_one_is_not(folder, bad):
    out, log = Collector(), []
    spec = scripted([frame(), bad, frame()], live=False)
    health = go(make_run(folder, [spec], [out], keep_all=True, log=log))
    assert faults(out) == [Fault.NONE, Fault.BAD_FRAME, Fault.NONE]
    assert health.faults[Fault.BAD_FRAME] == 1 and any("bad frame" in line for line in log)


@pytest.mark.parametrize(
    "bad", [np.zeros((0, 0, 3), np.uint8), np.zeros((59, 164, 4), np.float32), "torn"],
    ids=["empty", "of floats", "no array"],
)  # fmt: skip
def test_a_recording_goes_on_after_what_is_no_frame(folder, tmp_path, bad):
    spec = scripted([frame(), bad, frame(), frame()], live=False)
    recorder = Recorder(tmp_path / "out.avi", 25)
    health = go(make_run(folder, [spec], [recorder], keep_all=True))
    recorder.close()
    recording = cv2.VideoCapture(str(tmp_path / "out.avi"))
    assert sum(recording.read()[0] for _ in range(9)) == 3
    assert health.output_errors == 0 and health.faults[Fault.BAD_FRAME] == 1


@pytest.mark.parametrize("bad", [np.zeros(7, np.uint8), "torn"], ids=["a row", "no array"])
def test_a_camera_that_is_silent_after_a_corrupt_frame_is_told_of(folder, monkeypatch, bad):
    monkeypatch.setattr("trt_lane.runtime.loop.SILENCE_S", 0.02)
    out = Collector(stop_after=4)
    go(make_run(folder, [scripted([frame(), bad])], [out]))
    assert Fault.BAD_FRAME in faults(out) and faults(out)[-1] is Fault.CAMERA_LOST
    assert all(r.sequence == 1 for r in out.results if r.fault is Fault.CAMERA_LOST)


def test_no_frame_is_kept_once_it_was_handed_on(folder):
    class Watcher(Collector):
        def publish(self, result, frame):
            self.results.append(result)
            self.seen = weakref.ref(frame)

    out = Watcher()
    run = make_run(folder, [scripted(live=False)], [out])
    run._handle([(0, Captured(0, time.monotonic_ns(), frame()))])
    gc.collect()
    assert out.results[0].valid and out.seen() is None


def test_a_frame_of_another_size_is_taken_or_refused_as_fit_says(folder):
    steps = [frame(), frame(118, 328), frame(72, 128), frame()]
    for fit, expected in (
        (Fit.CROP, [Fault.NONE] * 4),
        (Fit.STRETCH, [Fault.NONE] * 4),
        (Fit.ERROR, [Fault.NONE, Fault.NONE, Fault.BAD_FRAME, Fault.NONE]),
    ):
        out = Collector()
        go(make_run(folder, [scripted(steps, live=False)], [out], keep_all=True, fit=fit))
        assert faults(out) == expected
        assert [r.lanes.frame_hw for r in out.results] == [s.shape[:2] for s in steps]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_heads_that_are_not_finite_are_invalid_counted_and_without_lanes(folder, value):
    def fault(call):
        logits = two_lanes()
        logits[0, 0, 0] = value
        return logits if call == 2 else None

    out = Collector()
    spec = scripted([frame()] * 3, live=False)
    health = go(make_run(folder, [spec], [out], keep_all=True, backends=lambda: Heads(fault)))
    assert faults(out) == [Fault.NONE, Fault.NOT_FINITE, Fault.NONE]
    assert len(out.results[1].lanes) == 0 and health.faults[Fault.NOT_FINITE] == 1


def test_a_bad_frame_of_one_camera_spoils_no_other(folder):
    out = Collector(stop_after=40)
    specs = [scripted(["torn"] * 100), scripted([frame()] * 100)]
    go(make_run(folder, specs, [out]))
    by_camera = {c: {r.fault for r in out.results if r.camera == c} for c in (0, 1)}
    assert by_camera == {0: {Fault.BAD_FRAME}, 1: {Fault.NONE}}


def test_a_lost_engine_is_opened_again_with_a_growing_wait(folder):
    made = []

    def backend():
        def fault(call):
            if len(made) == 1 and call == 3:
                raise RuntimeError("device lost")

        made.append(Heads(fault))
        if len(made) == 2:
            raise TrtLaneError("still no device")
        return made[-1]

    out, log = Collector(stop_after=60), []
    health = go(make_run(folder, [scripted([frame()] * 500)], [out], backends=backend, log=log))
    found = faults(out)
    assert found[:2] == [Fault.NONE] * 2 and Fault.ENGINE_LOST in found and found[-1] is Fault.NONE
    assert made[0].closed == 1 and len(made) == 3 and health.restarts == 1
    assert any("device lost" in line for line in log) and any("still no" in line for line in log)


def test_an_engine_that_does_not_come_back_ends_the_run(folder, monkeypatch):
    monkeypatch.setattr(engine_module, "FIRST_RETRY_S", 0.0001)
    monkeypatch.setattr(engine_module, "LAST_RETRY_S", 0.001)

    def broken(call):
        raise RuntimeError("illegal memory access")

    run = make_run(folder, [scripted([frame()] * 999)], [], backends=lambda: Heads(broken))
    with pytest.raises(EngineGoneError, match="in a row"):
        go(run)
    assert EngineGoneError.exit_status == 70


def test_an_engine_that_does_not_open_at_the_start_is_the_users_to_mend(folder):
    def none():
        raise TrtLaneError("not enough GPU memory")

    with pytest.raises(TrtLaneError, match="GPU memory"):
        make_run(folder, [scripted([frame()])], [], backends=none)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("NaN")])
def test_an_output_that_fails_is_left_out_and_the_run_goes_on(folder, error):
    class Full(Collector):
        name = "full disk"

        def publish(self, result, frame):
            super().publish(result, frame)
            if len(self.results) == 3:
                raise error

    full, out, log = Full(), Collector(), []
    spec = scripted([frame()] * 10, live=False)
    health = go(make_run(folder, [spec], [full, out], keep_all=True, log=log))
    assert (len(full.results), len(out.results), health.output_errors) == (3, 10, 1)
    assert full.closed and any("full disk" in line for line in log)


def test_an_output_that_fails_to_close_too_spoils_nothing(folder):
    class Broken(Collector):
        name = "broken"

        def publish(self, result, frame):
            raise OSError("the node is gone")

        def close(self):
            raise RuntimeError("so is its context")

    out, log = Collector(), []
    spec = scripted([frame()] * 5, live=False)
    health = go(make_run(folder, [spec], [Broken(), out], keep_all=True, log=log))
    assert (len(out.results), health.output_errors) == (5, 1)
    assert any("so is its context" in line for line in log)


def test_the_rate_is_kept(folder):
    out = Collector(stop_after=10)
    limits = Limits(max_age_ms=1000, rate_hz=50, health_every_s=0)
    start = time.monotonic()
    go(make_run(folder, [scripted([frame()] * 1000)], [out], limits=limits))
    assert 0.15 < time.monotonic() - start < 8


def test_a_stop_is_heard_while_no_frame_comes(folder):
    run = make_run(folder, [scripted(None)], [])
    threading.Timer(0.1, run.stop.set).start()
    start = time.monotonic()
    run.go()
    assert time.monotonic() - start < 5


def test_drivers_that_never_come_back_do_not_keep_the_run_from_ending(folder):
    never = threading.Event()

    class Hanging:
        def read(self):
            never.wait(20)

        def close(self):
            pass

    specs = [scripted() for _ in range(4)]
    for spec in specs:
        object.__setattr__(spec, "open", Hanging)
    run = make_run(folder, specs, [])
    threading.Timer(0.1, run.stop.set).start()
    start = time.monotonic()
    run.go()
    # All at once: one after the other they would take longer than the watchdog has patience.
    assert time.monotonic() - start < 3 * grabber_module.DRIVER_S
    never.set()


def test_frames_taken_too_slowly_are_stale_and_without_lanes(folder):
    def slow(call):
        time.sleep(0.03)

    out, log = Collector(), []
    limits = Limits(max_age_ms=10, health_every_s=0)
    spec = scripted([frame()] * 3, live=False)
    run = make_run(
        folder, [spec], [out], limits=limits, keep_all=True, log=log, backends=lambda: Heads(slow)
    )
    health = go(run)
    assert set(faults(out)) == {Fault.STALE} and health.invalid == 3
    assert sum("--max-age" in line for line in log) == 1


@pytest.mark.parametrize("count", [1500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_frames_of_a_run(folder, count):
    class Counter(Collector):
        lows = ()

        def publish(self, result, frame):
            third, size = 3 * result.sequence // count, resident_bytes()
            if third == len(self.lows):
                self.lows = (*self.lows, size)
            self.lows = (*self.lows[:-1], min(self.lows[-1], size))

    out = Counter()
    spec = scripted((frame(value=i % 256) for i in range(count)), live=False, pause_s=0)
    health = go(make_run(folder, [spec], [out], keep_all=True), seconds=600)
    assert health.frames == count and len(out.lows) == 3
    assert out.lows[2] - out.lows[1] < 200 * count / 3
