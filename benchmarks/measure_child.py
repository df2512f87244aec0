"""In a process of its own: rounds of warm-up and measurement of one detector, written as JSON."""

from __future__ import annotations

import json
import os
import sys
import time

import cv2
import numpy as np

from benchmarks.canary import Canary
from benchmarks.stopwatch import STAGES, TimedDetector
from trt_lane.artifact import EngineArtifact
from trt_lane.files import write_bytes

ROUND_S = 0.25  # shorter than most disturbances last, so that some rounds are free of them
ROUND_FRAMES = (3, 400)
ROUND_WARM_UP = 2  # the canary has used caches that the engine must fill again
DEVICE_FRAMES = 50
STEADY_SHARE = 0.03  # warm when three groups of frames in a row agree to this
STEADY_FRAMES = 4
MOST_WARM_UP_S = 5.0


def main(words: dict) -> None:
    """Measure as told and write the result."""
    cv2.setNumThreads(words["threads"])
    frames = np.load(words["frames"], mmap_mode="r")
    frames = [np.array(frame) for frame in frames]
    artifact = EngineArtifact.load(words["artifact"])
    canary = Canary(words["threads"])
    with TimedDetector.open(artifact, words["threads"], words["slow_down"]) as detector:
        frame_s = _warm_up(detector, frames)
        result = _rounds(detector, frames, canary, words["seconds"], frame_s)
        # A few more at first: events are made, and the graph that they exclude is gone.
        asked = [frames[i % len(frames)] for i in range(DEVICE_FRAMES + ROUND_WARM_UP)]
        result["device_ms"] = detector.device_rows(asked)[ROUND_WARM_UP:]
    canary.close()
    times = os.times()
    result |= {"stages": STAGES, "cpu_s": times.user + times.system}
    write_bytes(words["out"], json.dumps(result).encode())


def _warm_up(detector: TimedDetector, frames: list[np.ndarray]) -> float:
    """Run until the speed is steady; seconds per frame then."""
    begun = time.perf_counter()
    groups: list[float] = []
    number = 0
    while time.perf_counter() - begun < MOST_WARM_UP_S:
        for _ in range(STEADY_FRAMES):
            detector.detect(frames[number % len(frames)])
            number += 1
        groups.append(float(np.median([row[-1] for row in detector.rows[-STEADY_FRAMES:]])))
        last = groups[-3:]
        if len(last) == 3 and max(last) / min(last) - 1 < STEADY_SHARE:
            break
    return groups[-1] / 1e3


def _rounds(
    detector: TimedDetector,
    frames: list[np.ndarray],
    canary: Canary,
    seconds: float,
    frame_s: float,
) -> dict:
    per_round = int(np.clip(ROUND_S / max(frame_s, 1e-6), *ROUND_FRAMES))
    rows: list[list[float]] = []
    begun: list[float] = []
    round_of: list[int] = []
    canary_ms: list[float] = []
    measured, number = 0.0, 0
    while measured < seconds:
        canary_ms.append(canary.time_ms())
        for _ in range(ROUND_WARM_UP):
            detector.detect(frames[number % len(frames)])
        detector.forget()
        for _ in range(per_round):
            detector.detect(frames[number % len(frames)])
            number += 1
        measured += sum(row[-1] for row in detector.rows) / 1e3
        round_of += [len(canary_ms) - 1] * per_round
        rows += detector.rows
        begun += detector.begun
        detector.forget()
    return {
        "ms": [[round(v, 5) for v in row] for row in rows],
        "begun_s": [round(v - begun[0], 6) for v in begun],
        "round_of": round_of,
        "canary_ms": canary_ms,
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
