"""What a vehicle is: board, system, driver, power mode, as its files say; nothing is run or set."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from trt_lane.device import sysfs


def identity(root: Path = Path("/")) -> dict[str, str]:
    """Words by name: board or cpu, l4t, jetpack, driver, power_mode, clocks_locked and more.

    Args:
        root: in place of "/", for files recorded elsewhere.
    """
    found = {"machine": platform.machine(), "system": _os_name(root), **sysfs.facts(root)}
    if "board" not in found:
        cpu = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
        found["cpu"] = cpu[1].strip() if cpu else "?"
    found |= {
        key: value
        for key, value in (
            ("jetpack", jetpack_version(root)),
            ("driver", driver_version(_text(root / "proc/driver/nvidia/version"))),
            ("power_mode", power_mode(root)),
        )
        if value
    }
    return found


def jetpack_version(root: Path) -> str | None:
    """Of the package nvidia-jetpack, as NVIDIA counts; else from L4T's release, if known."""
    for block in _text(root / "var/lib/dpkg/status").split("\n\n"):
        if re.search(r"^Package: nvidia-jetpack$", block, re.MULTILINE) and re.search(
            r"^Status: .* installed$", block, re.MULTILINE
        ):
            version = re.search(r"^Version: ([0-9.]+)", block, re.MULTILINE)
            return version[1] if version else None
    return sysfs.facts(root).get("jetpack")


def driver_version(text: str) -> str | None:
    """Of /proc/driver/nvidia/version: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183"."""
    match = re.search(r"NVRM version:.*?\s([0-9]+\.[0-9]+(?:\.[0-9]+)?)\s", text + " ")
    return match[1] if match else None


def power_mode(root: Path) -> str | None:
    """Name and number of nvpmodel's mode, from its own files, which everybody may read.

    /var/lib/nvpmodel/status holds "pmode:0002"; without it the default of /etc/nvpmodel.conf holds.
    """
    table = _text(root / "etc/nvpmodel.conf")
    names = {
        int(number): name
        for number, name in re.findall(
            r"^< *POWER_MODEL ID=([0-9]+) NAME=(\S+) *>", table, re.MULTILINE
        )
    }
    chosen = re.search(r"pmode:([0-9]+)", _text(root / "var/lib/nvpmodel/status"))
    default = re.search(r"^< *PM_CONFIG DEFAULT=([0-9]+) *>", table, re.MULTILINE)
    mode = chosen or default
    if mode is None:
        return None
    number = int(mode[1])
    return f"{names.get(number, 'mode')} ({number})" + ("" if chosen else ", by default")


def _os_name(root: Path) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text(root / "etc/os-release"), re.MULTILINE)
    return match[1] if match else platform.system()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
