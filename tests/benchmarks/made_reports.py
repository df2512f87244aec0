"""Reports with made-up times, of which the truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.accuracy import Accuracy, Form
from benchmarks.bench_report import BenchmarkReport
from benchmarks.environment import Environment
from benchmarks.latency import Latency, Start
from trt_lane.device.state import DeviceState
from trt_lane.metrics.report import MF1_IOUS

FACTS = {"cpu": "Model T", "cores": 2, "threads": 1, "runtime": "onnxruntime 1.32.0"}
STAGES = ("preprocess", "network", "decode", "total")
SHARES = (0.1, 0.8, 0.1, 1.0)


def made_start(
    rng: np.random.Generator,
    level: float,
    machine: float = 1.0,
    noise: float = 0.03,
    memory: float = 0.7,
    rounds: int = 4,
    per_round: int = 40,
) -> Start:
    """A process whose frames hang together: each remembers the one before (AR(1))."""
    count = rounds * per_round
    wander = np.zeros(count)
    steps = rng.normal(0, noise * np.sqrt(1 - memory**2), count)
    for i in range(count):
        wander[i] = memory * (wander[i - 1] if i else 0) + steps[i]
    total = level * machine * np.exp(wander)
    total *= np.where(rng.random(count) < 0.005, 2.5, 1.0)  # something else held a frame up
    return Start(
        np.outer(total, SHARES),
        np.cumsum(total) / 1e3,
        np.repeat(np.arange(rounds), per_round),
        3.0 * machine * np.exp(rng.normal(0, 0.005, rounds)),
        1.0,
    )


def made_latency(
    seed: int, level: float = 10.0, starts: int = 6, apart: float = 0.01, **options: float
) -> Latency:
    """Starts whose levels differ by `apart`, since every process has its own memory layout."""
    rng = np.random.default_rng(seed)
    made = [made_start(rng, level * np.exp(rng.normal(0, apart)), **options) for _ in range(starts)]
    return Latency(STAGES, tuple(made), 1e-4, ())


def made_culane(frames: int = 300, lanes: int = 3, lost: Sequence[int] = ()) -> np.ndarray:
    """Rows of Form.culane: all lanes found up to IoU .7, but in the frames that lose one."""
    rows = np.zeros((frames, 2 + len(MF1_IOUS)), np.int64)
    rows[:, :2] = lanes
    rows[:, 2:7] = lanes
    rows[::7, 2:] -= 1  # no detector is without fault
    for frame in lost:
        rows[frame, 2:] = np.maximum(rows[frame, 2:] - 1, 0)
    return np.maximum(rows, 0)


def made_report(
    latency: Latency, culane: np.ndarray | None = None, digest: str = "d1", **facts: str
) -> BenchmarkReport:
    """A report around made-up times and counts."""
    states = tuple(DeviceState(when=when) for when in ("before", "during", "after"))
    environment = Environment({**FACTS, **facts}, {"numpy": "2.4.6"}, "abc", states, 1.0, 1.05)
    accuracy = None
    if culane is not None:
        names = tuple(f"test/{i}.jpg" for i in range(len(culane)))
        categories = tuple(("normal", "curve", "cross")[i % 3] for i in range(len(culane)))
        form = Form(culane)
        accuracy = Accuracy("made", digest, "culane", names, categories, {"engine": form})
    return BenchmarkReport(
        "ufld", "int8_mse", "cpu", "int8+fp32", "onnxruntime 1.32.0", "2026-01-01T00:00:00Z",
        {"engine": "e" * 64}, {"engine": 5_000_000}, {"starts": 6}, environment, latency,
        ({"scenario": "single stream", "p90_ms": 10.5, "frames": 960},), accuracy,
    )  # fmt: skip
