import os
import socket
import time

import numpy as np

from trt_lane.lanes import LaneSet
from trt_lane.runtime.health import WINDOW, Health, temperature_c
from trt_lane.runtime.result import Fault, FrameResult
from trt_lane.runtime.watchdog import HUNG_STATUS, Watchdog, notify

NONE = LaneSet.from_lanes([], (59, 164))


def result(latency_ms=10.0, fault=Fault.NONE):
    return FrameResult(0, 0, 0, round(1e6 * latency_ms), NONE, fault, 1e9)


def test_percentiles_are_of_the_latest_valid_results_only():
    health = Health()
    assert health.percentile_ms(99) is None
    for _ in range(WINDOW):
        health.count(result(500))
    latencies = np.random.default_rng(0).uniform(5, 50, WINDOW)
    for latency in latencies:
        health.count(result(latency))
        health.count(result(9999, Fault.NOT_FINITE))
    np.testing.assert_allclose(health.percentile_ms(99), np.percentile(latencies, 99), atol=1e-5)
    np.testing.assert_allclose(health.percentile_ms(50), np.percentile(latencies, 50), atol=1e-5)


def test_the_line_counts_what_went_wrong():
    health = Health()
    for fault in (Fault.NONE, Fault.NOT_FINITE, Fault.BAD_FRAME, Fault.BAD_FRAME):
        health.count(result(fault=fault))
    line = health.line()
    for part in ("frames=4", "invalid=3", "not_finite=1", "bad_frames=2", "p50_ms=10.0", "p99_ms"):
        assert part in line
    assert "\n" not in line


def test_the_hottest_zone_that_answers_is_told(tmp_path):
    for number, text in enumerate(["45500\n", "61250\n", "-256000\n", "not a number\n", ""]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "temp").write_text(text)
    assert temperature_c(tmp_path) == 61.25
    assert temperature_c(tmp_path / "none") is None


def test_a_watchdog_ends_what_hangs_and_lets_live_what_beats():
    ended, log = [], []
    with Watchdog(0.8, log.append, ended.append) as watchdog:
        for _ in range(14):
            time.sleep(0.08)
            watchdog.beat()
        assert not ended
        until = time.monotonic() + 10
        while not ended and time.monotonic() < until:
            time.sleep(0.05)
    assert ended == [HUNG_STATUS] and "nothing moved" in log[0]


def test_a_watchdog_without_a_limit_watches_nothing():
    ended = []
    with Watchdog(0, print, ended.append):
        time.sleep(0.05)
    assert not ended


def test_systemd_is_told_where_it_listens(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        assert notify("READY=1", path)
        assert channel.recv(64) == b"READY=1"
    assert not notify("READY=1", str(tmp_path / "none"))
    assert not notify("READY=1", "")
    assert os.environ.get("NOTIFY_SOCKET") or not notify("READY=1")
