"""Whether a report was measured on the device whose peaks it is held against."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.roofline.device import Device, list_devices
from trt_lane.errors import TrtLaneError

# NVML's name of a Jetson's GPU ends so, since its driver is another one.
_NVGPU = " (nvgpu)"


def check_device(device: Device, target: str, facts: Mapping[str, Any]) -> str:
    """Refuse a report of another device.

    Args:
        device: whose peaks are meant.
        target: that the report's engine was built for.
        facts: of the report's environment, of which "gpu" (by NVML) and "board" (by the device
            tree) name the device.

    Returns:
        Why it could not be told that it is this device; "" where it was.

    Raises:
        TrtLaneError: it ran on a CPU, was built for another device's target, or names another.
    """
    if target == "cpu":
        raise TrtLaneError(
            f"the report is of the target cpu, so no share of {device.name}'s peaks was reached; "
            f"expected one measured on {device.description}"
        )
    known = list_devices()
    bundled = device in known
    # A user's file need not say which targets it may be.
    strict = bundled or device.targets
    if strict and target not in (device.name, *device.targets, "local"):
        mine = ", ".join(device.targets) or "local"
        raise TrtLaneError(
            f"the report was measured on the target {target}; {device.name} is one of {mine}"
        )
    gpu, board = (str(facts.get(name) or "").strip() for name in ("gpu", "board"))
    told = ", ".join(filter(None, (gpu, board)))
    if not told:
        return "the report does not name its device"
    if not device.names:
        return f"the report names {told!r}, {device.name}'s file no names"
    found = _devices_named(gpu, board, known if bundled else [*known, device])
    if device in found:
        others = [d.name for d in found if d != device]
        certain = not (bundled and others)
        return "" if certain else f"the report's {told!r} may be {', '.join(others)} too"
    if not found and not gpu:
        return f"the report names its board {told!r}, which is none that is known"
    others = f", which is {', '.join(d.name for d in found)}" if found else ""
    raise TrtLaneError(
        f"the report was measured on {told!r}{others}; expected {device.description}"
        + ("" if found else ", or --target FILE.toml with the peaks of that device")
    )


def _devices_named(gpu: str, board: str, devices: Sequence[Device]) -> list[Device]:
    """Those that the longest name found in either text belongs to."""
    gpu = gpu.removesuffix(_NVGPU)
    longest: dict[Device, int] = {}
    for device in devices:
        for name in device.names:
            # A GPU's name ends with its model: a 4090 Laptop GPU is another one. A board's goes on.
            word = rf"(?<!\w){re.escape(name)}"
            if re.search(rf"{word}$", gpu, re.I) or re.search(rf"{word}(?!\w)", board, re.I):
                longest[device] = max(longest.get(device, 0), len(name))
    most = max(longest.values(), default=0)
    return [device for device, length in longest.items() if length == most]
