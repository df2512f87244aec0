"""MLPerf's inference scenarios for lanes: single stream, cameras at a constant rate, offline.

Source of the terms: MLPerf Inference rules (mlcommons/inference_policies). Single stream asks for
the 90th percentile, multi-stream for the 99th of a query of several samples, offline for the
throughput. MLPerf's server scenario draws arrivals at random; a camera sends them at a constant
rate, and a frame that is not done when the next one comes is late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.latency import CAMERA_HZ, Latency, told_percentile

CAMERAS = (2, 4, 6)
Detect = Callable[[np.ndarray], object]


def single_stream(latency: Latency) -> dict[str, Any]:
    """One frame after the other: the 90th percentile of the measured frames."""
    p90 = float(np.percentile(latency.of("total"), 90))
    return {"scenario": "single stream", "p90_ms": p90, "frames": len(latency.of("total"))}


def camera(
    detect: Detect, frames: Sequence[np.ndarray], hz: float, seconds: float
) -> dict[str, Any]:
    """Frames of a camera in real time; the newest one is taken, those it passed are dropped.

    Args:
        detect: takes a frame.
        frames: gone through again and again.
        hz: frames per second.
        seconds: how long the camera runs.
    """
    count = max(round(hz * seconds), 1)
    start = time.perf_counter() + 0.02
    delays: list[float] = []
    late, taken = 0, -1
    while True:
        now = time.perf_counter()
        newest = max(int((now - start) * hz), taken + 1)
        if newest >= count:
            break
        arrival = start + newest / hz
        if arrival > now:
            time.sleep(arrival - now)
        detect(frames[newest % len(frames)])
        delay = time.perf_counter() - arrival
        delays.append(1e3 * delay)
        late += delay > 1 / hz
        taken = newest
    dropped = count - len(delays)
    return {
        "scenario": f"camera {hz:g} Hz",
        "frames": count,
        "late_share": (late + dropped) / count,
        "dropped": dropped,
        **_times(delays),
    }


def cameras(
    detect: Detect, frames: Sequence[np.ndarray], number: int, seconds: float
) -> dict[str, Any]:
    """A frame of each of several cameras at once, until all their lanes are there."""
    queries: list[float] = []
    begun = time.perf_counter()
    place = 0
    while not queries or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        for _ in range(number):
            detect(frames[place % len(frames)])
            place += 1
        queries.append(1e3 * (time.perf_counter() - start))
    times = _times(queries)
    return {
        "scenario": f"{number} cameras",
        "queries": len(queries),
        **times,
        "hz": 1e3 / (times["p99_ms"] or times["max_ms"]),
    }


def offline(
    opened: Sequence[Detect], frames: Sequence[np.ndarray], seconds: float
) -> dict[str, Any]:
    """All frames are there at once: frames per second of all detectors together.

    Args:
        opened: detectors, one per thread of this process.
        frames: every detector goes through all of them.
        seconds: how long.
    """
    begun = time.perf_counter()

    def work(detect: Detect) -> int:
        done = 0
        while time.perf_counter() - begun < seconds:
            detect(frames[done % len(frames)])
            done += 1
        return done

    with ThreadPoolExecutor(len(opened)) as pool:
        done = sum(pool.map(work, opened))
    elapsed = time.perf_counter() - begun
    return {"scenario": "offline", "workers": len(opened), "frames_per_s": done / elapsed}


def _times(ms: Sequence[float]) -> dict[str, float | None]:
    """Median, 99th percentile (None where so few cannot tell it) and the slowest."""
    values = np.array(ms)
    return {
        "p50_ms": float(np.median(values)),
        "p99_ms": told_percentile(values, 99),
        "max_ms": float(values.max()),
    }


def all_scenarios(
    latency: Latency,
    open_detector: Callable[[int | None], Any],
    threads: int,
    workers: int,
    frames: Sequence[np.ndarray],
    seconds: float,
) -> list[dict[str, Any]]:
    """Every scenario, `seconds` each.

    Args:
        latency: what was measured one frame after the other.
        open_detector: a LaneDetector (a context manager) with so many CPU threads.
        threads: of one detector.
        workers: detectors at once for offline, each with one thread.
        frames: BGR uint8.
        seconds: of each scenario.
    """
    found = [single_stream(latency)]
    with ExitStack() as stack:
        detect = stack.enter_context(open_detector(threads)).detect
        for frame in frames[:3]:
            detect(frame)  # warm
        found += [camera(detect, frames, hz, seconds) for hz in CAMERA_HZ]
        found += [cameras(detect, frames, number, seconds) for number in CAMERAS]
    with ExitStack() as stack:
        opened = [stack.enter_context(open_detector(1)).detect for _ in range(workers)]
        for detect in opened:
            detect(frames[0])
        found.append(offline(opened, frames, seconds))
    return found
