"""Device: what a processor can do at most, with the source of its figures."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from trt_lane.errors import TrtLaneError
from trt_lane.toml_files import read_named

FOLDER = Path(__file__).parent / "devices"


@dataclass(frozen=True)
class Device:
    """Peaks that no kernel passes.

    Attributes:
        name: file stem in benchmarks/roofline/devices.
        description: one line for people.
        int8_tops: dense INT8 operations per second, in 1e12; a multiply-accumulate is two.
        fp16_tflops: dense FP16 operations per second on tensor cores, in 1e12.
        bandwidth_gb_s: of its memory, in 1e9 bytes per second.
        l2_mb: of its last cache, in 2**20 bytes.
        targets: names in engines/targets that may be this device.
        names: what NVML (its end) or a board's device tree (some of it) call it; of two devices
            that a report's words fit, the one with the longer name is meant.
        source: where the figures come from, and how dense ones were had of sparse ones.
    """

    name: str
    description: str
    int8_tops: float
    fp16_tflops: float
    bandwidth_gb_s: float
    l2_mb: float
    source: str
    targets: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("targets", "names"):
            words = tuple(getattr(self, name))
            if isinstance(getattr(self, name), str) or not all(isinstance(w, str) for w in words):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a list of words")
            object.__setattr__(self, name, words)
        for name in ("int8_tops", "fp16_tflops", "bandwidth_gb_s", "l2_mb"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"{name} is {value!r}; expected a number above 0")
        if not self.source:
            raise ValueError("no source; expected where the peaks come from")


def list_devices() -> list[Device]:
    """All known devices, by name."""
    return [read_device(path) for path in sorted(FOLDER.glob("*.toml"))]


def find_devices(name: str) -> list[Device]:
    """Devices of a name, of a target in engines/targets, of a TOML file, or all of them.

    Args:
        name: "agx-orin", "jetson-orin", a path that ends in .toml, or "all".
    """
    if name.endswith(".toml"):
        return [read_device(Path(name))]
    devices = list_devices()
    found = [d for d in devices if name == "all" or name == d.name or name in d.targets]
    if not found:
        known = [d.name for d in devices] + sorted({t for d in devices for t in d.targets})
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise TrtLaneError(
            f"no peaks of a device {name!r}; {hint}known: {', '.join(known)}, all, or a file.toml "
            f"like those in {FOLDER.relative_to(FOLDER.parents[2])}"
        )
    # A device of exactly that name is meant, though it may be a target's name too.
    exact = [d for d in found if d.name == name]
    return exact or found


def read_device(path: Path) -> Device:
    """A device from its TOML file; unknown or missing keys and wrong values are errors."""
    return read_named(Device, path)
