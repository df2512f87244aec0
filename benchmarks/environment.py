"""Environment: what figures were measured on, and its state before, during and after."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import machine, versions
from trt_lane.backends.cuda_driver import CudaDriver
from trt_lane.device import sysfs, tegrastats
from trt_lane.device.nvml import Nvml
from trt_lane.device.state import OVER_CURRENT, DeviceState
from trt_lane.errors import TrtLaneError

ROOT = Path(__file__).resolve().parents[1]
CLOCK_SHARE = 0.05  # clocks further apart are another machine, for what a figure is worth
# What computes while a frame goes through; a workshop's other packages may change.
PACKAGES = ("numpy", "opencv-python", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13")
# Two figures of which one of these differs are of two devices; of the rest a difference is told.
IDENTITY = (
    *("cpu", "cores", "threads", "board", "gpu", "sm", "gpu_memory", "jetpack", "l4t"),
    *("driver", "system", "python", "runtime", "power_mode", "clocks_locked", "cpu_governor"),
)

ON_ORIN = " (on Jetson Orin 1: under-voltage, 2: average, 3: momentary current)"
NAME_THE_GPU = "pip install nvidia-ml-py and measure again"


@dataclass(frozen=True)
class Environment:
    """Facts of the machine and what it was like while it measured.

    Attributes:
        facts: plain words by name: cpu, board, gpu, driver, jetpack, power_mode, …
        versions: of the packages that compute.
        git: commit of the code, "+changes" behind it when files differed; "" outside a repository.
        states: first "before", then "during", last "after".
        own_cores: cores that the measurement itself kept busy, on average.
        busy_cores: cores that all programs together kept busy meanwhile; None where unknown.
    """

    facts: dict[str, Any]
    versions: dict[str, str]
    git: str = ""
    states: tuple[DeviceState, ...] = ()
    own_cores: float | None = None
    busy_cores: float | None = None

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Environment:
        """The inverse of `to_dict`."""
        states = tuple(DeviceState(**state) for state in values["states"])
        if len(states) < 2 or (states[0].when, states[-1].when) != ("before", "after"):
            raise ValueError("expected the device's state before and after the measurement")
        return cls(**{**values, "states": states})

    @property
    def other_cores(self) -> float | None:
        """Cores that other programs kept busy while this was measured."""
        if self.busy_cores is None or self.own_cores is None:
            return None
        return max(self.busy_cores - self.own_cores, 0.0)

    def throttled(self) -> tuple[str, ...]:
        """Why the device held its clocks down at some time while it measured."""
        reasons = {reason for state in self.states[1:] for reason in state.throttle or ()}
        return tuple(sorted(reasons | {k for k in self._rises() if not _is_over_current(k)}))

    @property
    def gpu_unknown(self) -> bool:
        """Whether an engine ran on a GPU of which neither its name nor the board's is known."""
        on_gpu = str(self.facts.get("runtime", "")).startswith("tensorrt")
        return on_gpu and not (self.facts.get("gpu") or self.facts.get("board"))

    def warnings(self) -> list[str]:
        """What to know of the machine before believing the figures, besides `throttled`."""
        found = [f"the GPU is unknown; {NAME_THE_GPU}"] if self.gpu_unknown else []
        rises = {k: n for k, n in self._rises().items() if _is_over_current(k)}
        if rises:
            told = ", ".join(f"{kind} rose by {rise}" for kind, rise in rises.items())
            found.append(f"{told} meanwhile{ON_ORIN}: look at clocks and supply")
        return found

    def energy_j(self) -> float | None:
        """Joules while it measured: by the device's counter, else by its power; None without."""
        if len(self.states) < 2:
            return None
        first, last = self.states[0], self.states[-1]
        if first.energy_j is not None and last.energy_j is not None:
            used = last.energy_j - first.energy_j
            return used if used > 0 else None  # a counter that wrapped says nothing
        power = [s.power_w for s in self.states if s.when == "during" and s.power_w is not None]
        return sum(power) / len(power) * (last.at_s - first.at_s) if power else None

    def differences(self, other: Environment) -> list[str]:
        """What makes figures of the two not comparable, in words."""
        found = []
        for name in IDENTITY:
            ours, theirs = self.facts.get(name), other.facts.get(name)
            if ours != theirs:
                found.append(f"{name.replace('_', ' ')} is {ours or '?'} against {theirs or '?'}")
        if self.gpu_unknown and other.gpu_unknown:
            found.append(f"the GPU is unknown on both sides; {NAME_THE_GPU}")
        for name in sorted(self.versions.keys() | other.versions.keys()):
            ours, theirs = self.versions.get(name), other.versions.get(name)
            if ours != theirs:
                found.append(f"{name} is {ours or 'absent'} against {theirs or 'absent'}")
        clocks, others = self._clocks(), other._clocks()
        for part in sorted(clocks.keys() | others.keys()):
            ours, theirs = clocks.get(part), others.get(part)
            unknown = ours is None or theirs is None
            if unknown or abs(ours - theirs) > CLOCK_SHARE * max(ours, theirs):
                found.append(f"{part} clock was {_mhz(ours)} against {_mhz(theirs)}")
        return found

    def _rises(self) -> dict[str, int]:
        """Events while it measured, by kind."""
        return self.states[-1].events_since(self.states[0]) if self.states else {}

    def _clocks(self) -> dict[str, float]:
        """Median clock of each part while it measured; around it where that was too short."""
        states = [s for s in self.states if s.when == "during"] or self.states
        during = [state.clocks_mhz for state in states]
        parts = {part for clocks in during for part in clocks}
        return {p: median(c[p] for c in during if p in c) for p in parts}


def _is_over_current(kind: str) -> bool:
    return kind.startswith(OVER_CURRENT)


def _mhz(clock: float | None) -> str:
    return "?" if clock is None else f"{clock:.0f} MHz"


WATCH_S = 1.0
MOST_STATES = 100


class EnvironmentReader:
    """Reads the environment around a measurement; a context manager, for the GPU's library."""

    def __init__(self, threads: int, runtime: str) -> None:
        self._nvml = Nvml.open()
        self._states: list[DeviceState] = []
        self._start = time.monotonic()
        self._busy = sysfs.busy_seconds()
        base = machine(threads)
        del base["versions"]
        self._versions = versions(PACKAGES)
        self._facts = {**base, "runtime": runtime, **sysfs.facts(), **_power_mode()}
        if self._nvml is not None:
            self._facts |= self._nvml.facts()
        if runtime.startswith("tensorrt"):
            self._facts = {**driver_facts(), **self._facts}

    def __enter__(self) -> EnvironmentReader:
        return self

    def __exit__(self, *error: object) -> None:
        if self._nvml is not None:
            self._nvml.close()

    def read(self, when: str) -> None:
        """Note the state now."""
        now = {"when": when, "at_s": round(time.monotonic() - self._start, 3)}
        state = replace(sysfs.state(), **now)
        if self._nvml is not None:
            state = replace(self._nvml.state(), **now).joined(state)
        self._states.append(state.joined(tegrastats.read()))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read the state again and again meanwhile, before at first and after at last.

        The longer it takes the more seldom, so that reading disturbs little and the list stays
        short.
        """
        self.read("before")
        ended = threading.Event()

        def watch() -> None:
            interval = WATCH_S
            while not ended.wait(interval):
                self.read("during")
                interval = max(interval, (time.monotonic() - self._start) / MOST_STATES)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self.read("after")

    def environment(self, own_seconds: float) -> Environment:
        """All that was read.

        Args:
            own_seconds: CPU time of the measuring processes since this reader was made.
        """
        elapsed = max(time.monotonic() - self._start, 1e-9)
        busy, now = None, sysfs.busy_seconds()
        if now is not None and self._busy is not None:
            # Time that the hypervisor took is as lost as if another program had had it.
            busy = (sum(now) - sum(self._busy)) / elapsed
        return Environment(
            self._facts,
            self._versions,
            git_commit(),
            tuple(self._states),
            own_seconds / elapsed,
            busy,
        )


def driver_facts(library: str | None = None) -> dict[str, str]:
    """Compute capability and CUDA version, by the driver that ran the engine; {} without one.

    Args:
        library: of the driver; None for the system's.
    """
    try:
        driver = CudaDriver(library=library)
        return {"sm": f"sm_{driver.compute_capability}", "cuda_driver": driver.version}
    except TrtLaneError:
        return {}


def git_commit(root: Path = ROOT) -> str:
    """Commit of the code, with "+changes" where tracked files differ from it; "" without one."""
    commit = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    if not commit:
        return ""
    changed = _output(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return commit + ("+changes" if changed else "")


def cpu_seconds() -> float:
    """CPU time of this process and of the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _power_mode() -> dict[str, str]:
    program = shutil.which("nvpmodel")
    mode = sysfs.power_mode(_output([program, "-q"])) if program else None
    return {} if mode is None else {"power_mode": mode}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
