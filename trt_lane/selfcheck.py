"""Self-check of a vehicle: what it is, whether its engine is right, and fast enough."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_lane import __version__
from trt_lane.artifact import EngineArtifact
from trt_lane.building.recipe import BuilderKind
from trt_lane.bundle.golden import FOLDER, GoldenResult, GoldenSet, judge, read_frame
from trt_lane.bundle.manifest import MANIFEST, FileEntry, Manifest
from trt_lane.detector import LaneDetector
from trt_lane.device import sysfs
from trt_lane.device.identity import identity
from trt_lane.device.state import DeviceState
from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.fit import Fit
from trt_lane.installing.facts import builder_version, compute_capability

WARM_UP = 10


@dataclass(frozen=True)
class SelfCheck:
    """What was found.

    Attributes:
        identity: of the device, as trt_lane.device.identity gives it.
        state: clocks and temperatures while the engine ran.
        runtime: what runs the engine, and its version here.
        compute_capability: of the GPU, or None.
        artifact: the engine.
        golden: how it did.
        latencies_ms: from frame to lanes, of each measured frame.
        budget_ms: of the bundle, or None.
    """

    identity: Mapping[str, str]
    state: DeviceState
    runtime: str
    compute_capability: int | None
    artifact: EngineArtifact
    golden: GoldenResult
    latencies_ms: tuple[float, ...]
    budget_ms: float | None

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return float(np.percentile(self.latencies_ms, 50))

    @property
    def p99_ms(self) -> float:
        """Latency that 99 of 100 frames keep."""
        return float(np.percentile(self.latencies_ms, 99))

    @property
    def in_budget(self) -> bool:
        """Whether the p99 keeps the bundle's budget; without one everything does."""
        return self.budget_ms is None or self.p99_ms <= self.budget_ms

    @property
    def passed(self) -> bool:
        """Whether the vehicle may drive with this engine."""
        return self.golden.passed and self.in_budget

    @property
    def temperature_c(self) -> float | None:
        """The hottest sensor."""
        return max(self.state.temperatures_c.values(), default=None)

    def report_line(self) -> str:
        """One line for a bug report; nothing in it names a person, a place or an address."""
        facts, artifact = self.identity, self.artifact
        parts = [
            f"trt_lane {__version__}",
            f"{artifact.model}@{artifact.digests.get('onnx', '?')[:12]} {artifact.precision}",
            self.runtime,
            "CPU" if self.compute_capability is None else f"sm_{self.compute_capability}",
            facts.get("board") or facts.get("cpu", "?"),
            *(f"{name} {facts[key]}" for name, key in _REPORTED if key in facts),
            *(f"{part} {mhz:.0f} MHz" for part, mhz in self.state.clocks_mhz.items()),
            *([] if self.temperature_c is None else [f"{self.temperature_c:.0f} C"]),
            f"golden {'pass' if self.golden.passed else 'FAIL'} {self.golden.agreement:.3f} "
            f"{self.golden.distortion_px:.2f}/{self.golden.limit_px:.2f} px",
            f"p50 {self.p50_ms:.1f} p99 {self.p99_ms:.1f} ms of {self.budget_ms or 'no budget'}",
            "PASS" if self.passed else "FAIL",
        ]
        return "; ".join(" ".join(str(part).split()) for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "passed": self.passed,
            "identity": dict(self.identity),
            "clocks_mhz": self.state.clocks_mhz,
            "temperatures_c": self.state.temperatures_c,
            "runtime": self.runtime,
            "compute_capability": self.compute_capability,
            "model": self.artifact.model,
            "digests": dict(self.artifact.digests),
            "decoders": self.artifact.info.get("decoders", ""),
            "golden": {
                "passed": self.golden.passed,
                "agreement": self.golden.agreement,
                "distortion_px": self.golden.distortion_px,
                "limit_px": self.golden.limit_px,
                "frames": self.golden.frames,
            },
            "latency_ms": {"p50": self.p50_ms, "p99": self.p99_ms, "budget": self.budget_ms},
            "report": self.report_line(),
        }


_REPORTED = (
    ("JetPack", "jetpack"), ("L4T", "l4t"), ("driver", "driver"), ("power", "power_mode"),
    ("clocks locked", "clocks_locked"), ("governor", "cpu_governor"),
)  # fmt: skip


def selfcheck(
    folder: Path, frames: int = 100, threads: int | None = None, root: Path = Path("/")
) -> SelfCheck:
    """Verify, run and time an installed engine.

    Args:
        folder: of the engine in the store.
        frames: how many are timed, from frame to lanes.
        threads: CPU threads of ONNX Runtime.
        root: in place of "/", for files recorded elsewhere.

    Raises:
        TrtLaneError: the engine or its golden frames are damaged, it does not load, or was not
            installed from a bundle.
    """
    if frames < 1:
        raise TrtLaneError(f"frames is {frames}; expected 1 or more")
    artifact = EngineArtifact.load(folder)
    manifest = _manifest(artifact.folder)
    _check_golden(artifact.folder, manifest)
    golden = GoldenSet.load(artifact.folder)
    pictures = [read_frame(artifact.folder / frame.file) for frame in golden.frames]
    with LaneDetector.open(artifact, threads=threads, fit=Fit.CROP) as detector:
        result = judge(golden, [detector.detect(picture) for picture in pictures])
        for i in range(WARM_UP):
            detector.detect(pictures[i % len(pictures)])
        latencies = []
        for i in range(frames):
            start = time.perf_counter()
            detector.detect(pictures[i % len(pictures)])
            latencies.append(1e3 * (time.perf_counter() - start))
        state = sysfs.state(root)
    version = builder_version(BuilderKind(artifact.runtime)) or "?"
    return SelfCheck(
        identity(root),
        state,
        f"{artifact.runtime} {version}",
        compute_capability() if artifact.compute_capabilities else None,
        artifact,
        result,
        tuple(latencies),
        manifest.budget_ms,
    )


def _check_golden(folder: Path, manifest: Manifest) -> None:
    """Refuse golden frames that are not the bundle's: they would judge a right engine wrong."""
    for name, entry in manifest.files.items():
        if name.startswith(FOLDER) and not _is(folder / name, entry):
            raise TrtLaneError(
                f"{folder / name} is not the file of the bundle; run: trt-lane install BUNDLE"
            )


def _is(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and sha256_file(path) == entry.sha256


def _manifest(folder: Path) -> Manifest:
    try:
        return Manifest.from_bytes((folder / MANIFEST).read_bytes())
    except OSError:
        raise TrtLaneError(
            f"{folder} was not installed from a bundle, so there are no golden frames to check it "
            "with; run: make bundle, trt-lane install BUNDLE"
        ) from None
