"""What a CPU detector costs before its first frame: imports, loading, memory, in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from trt_lane.errors import TrtLaneError

ROOT = Path(__file__).resolve().parents[1]
STARTS = 3
FRAMES = 5


def cold_start(artifact: Path, threads: int) -> dict:
    """Import and load seconds (best of some starts) and memory in MB of a detector's process.

    Raises:
        TrtLaneError: the artifact does not load.
    """
    runs = [_start(artifact, threads) for _ in range(STARTS)]
    return {
        **{key: min(run[key] for run in runs) for key in ("import_s", "detector_import_s")},
        "load_s": min(run["load_s"] for run in runs),
        "resident_mb": max(run["resident_mb"] for run in runs),
        "peak_mb": max(run["peak_mb"] for run in runs),
        "torch": any(run["torch"] for run in runs),
    }


def _start(artifact: Path, threads: int) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cold_start", str(artifact.resolve()), str(threads)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise TrtLaneError(f"a new process cannot load {artifact}: {last}")
    return json.loads(done.stdout)


def _measure(artifact: str, threads: int) -> dict:
    """In the new process: frames of noise through a detector, as a vehicle loads it."""
    start = time.perf_counter()
    import trt_lane

    imported = time.perf_counter()
    detector_class = trt_lane.LaneDetector
    detector_imported = time.perf_counter()
    with detector_class.load(artifact, threads=threads) as detector:
        loaded = time.perf_counter()
        import numpy as np

        height, width = detector.artifact.image.frame_hw
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        for _ in range(FRAMES):
            detector.detect(frame)
        resident_mb, peak_mb = _memory_mb()
    return {
        "import_s": imported - start,
        "detector_import_s": detector_imported - start,
        "load_s": loaded - detector_imported,
        "resident_mb": resident_mb,
        "peak_mb": peak_mb,
        "torch": "torch" in sys.modules,
    }


def _memory_mb() -> tuple[float, float]:
    """Resident now and at most; Linux."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return tuple(int(fields[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))
