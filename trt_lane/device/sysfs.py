"""What Linux says in /sys, /proc and /etc, of a PC, a Jetson or a DRIVE board."""

from __future__ import annotations

import re
from pathlib import Path

from trt_lane.device.state import OVER_CURRENT, DeviceState

# Jetson Linux (L4T) release -> JetPack, from NVIDIA's JetPack archive.
JETPACK = {
    "38.4": "7.1",
    "38.2": "7.0",
    "36.5": "6.2.2",
    "36.4.7": "6.2.1",
    "36.4.4": "6.2.1",
    "36.4.3": "6.2",
    "36.4": "6.1",
    "36.3": "6.0",
    "35.6": "5.1.4",
    "35.5": "5.1.3",
    "35.4": "5.1.2",
    "35.3": "5.1.1",
    "35.2": "5.1",
}


def facts(root: Path = Path("/")) -> dict[str, str]:
    """Board, JetPack, governor and whether clocks are pinned, as far as files tell.

    Args:
        root: in place of "/", for files recorded elsewhere.
    """
    found: dict[str, str] = {}
    board = _text(root / "proc/device-tree/model")
    if board:
        found["board"] = board.replace("\0", "")
    release = l4t_release(_text(root / "etc/nv_tegra_release") or "")
    if release:
        found["l4t"] = release
        known = [r for r in JETPACK if release == r or release.startswith(f"{r}.")]
        if known:
            found["jetpack"] = JETPACK[max(known, key=len)]
    governors = {
        text
        for path in sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
        if (text := _text(path))
    }
    if governors:
        found["cpu_governor"] = ", ".join(sorted(governors))
    locked = clocks_locked(root)
    if locked is not None:
        found["clocks_locked"] = "yes" if locked else "no"
    return found


def l4t_release(text: str) -> str | None:
    """The release of /etc/nv_tegra_release: "# R36 (release), REVISION: 4.3, …" is 36.4.3."""
    match = re.search(r"# R([0-9]+) \(release\), REVISION: ([0-9.]+)", text)
    return f"{match[1]}.{match[2]}".removesuffix(".0") if match else None


def clocks_locked(root: Path = Path("/")) -> bool | None:
    """Whether lowest and highest clock of CPU and GPU are equal, as jetson_clocks makes them."""
    pairs = []
    for policy in root.glob("sys/devices/system/cpu/cpufreq/policy*"):
        pairs.append((policy / "scaling_min_freq", policy / "scaling_max_freq"))
    for device in _gpus(root):
        pairs.append((device / "min_freq", device / "max_freq"))
    limits = [(_number(low), _number(high)) for low, high in pairs]
    known = [(low, high) for low, high in limits if low is not None and high is not None]
    return all(low == high for low, high in known) if known else None


def state(root: Path = Path("/")) -> DeviceState:
    """Clocks, temperatures, throttle events, energy and load now."""
    clocks = {}
    frequencies = [
        value
        for path in root.glob("sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq")
        if (value := _number(path)) is not None
    ]
    if frequencies:
        clocks["cpu"] = max(frequencies) / 1e3  # kHz
    for device in _gpus(root):
        hertz = _number(device / "cur_freq")
        if hertz is not None:
            clocks["gpu"] = hertz / 1e6
    load = _text(root / "proc/loadavg")
    return DeviceState(
        clocks_mhz=clocks,
        temperatures_c=_temperatures(root),
        throttle=_alerts(root),
        throttle_counts=_events(root),
        energy_j=_package_energy(root),
        load_average=float(load.split()[0]) if load else None,
    )


def busy_seconds(root: Path = Path("/")) -> tuple[float, float] | None:
    """Core-seconds since start that programs ran, and that a hypervisor took away; of all cores."""
    text = _text(root / "proc/stat")
    if not text or not text.startswith("cpu "):
        return None
    # user nice system idle iowait irq softirq steal (proc(5)), in hundredths of a second
    ticks = [int(word) for word in text.splitlines()[0].split()[1:9]]
    ticks += [0] * (8 - len(ticks))
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / 100, ticks[7] / 100


def power_mode(text: str) -> str | None:
    """The mode that `nvpmodel -q` names: "NV Power Mode: MAXN" and its number on the next line."""
    match = re.search(r"NV Power Mode: *([^\n]+)(?:\n([0-9]+))?", text)
    if not match:
        return None
    return match[1].strip() + (f" ({match[2]})" if match[2] else "")


def _temperatures(root: Path) -> dict[str, float]:
    found = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        name, value = _text(zone / "type"), _number(zone / "temp")
        if name and value is not None and value > -200_000:  # a sensor that is off says -256 C
            found[name.removesuffix("-thermal")] = value / 1000
    return found


def _alerts(root: Path) -> tuple[str, ...] | None:
    """What a Jetson slows down since it is hot; None where there are no such alerts.

    The kernel has them as cooling devices, "gpu-throttle-alert" and the like, whose state is 0
    until then.
    """
    states = {
        name: _number(device / "cur_state")
        for device in sorted(root.glob("sys/class/thermal/cooling_device*"))
        if (name := _text(device / "type")) and name.endswith("-throttle-alert")
    }
    known = {name: state for name, state in states.items() if state is not None}
    if not known:
        return None
    return tuple(
        f"{n.removesuffix('-throttle-alert')} thermal limit" for n, s in known.items() if s
    )


def _events(root: Path) -> dict[str, int]:
    """Counters: a PC's thermal limits, and what a Jetson's supply could not give.

    Of Jetson Orin the Jetson Linux Developer Guide names three, in this order: under-voltage,
    average and momentary over-current. Owners of uncapped boards (MAXN) see the third one rise
    under any heavy load, clocks and latency unmoved: a rise need not mean that clocks were held.
    """
    counts: dict[str, int] = {}
    for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"):
        value = _number(path)
        if value is not None:
            key = f"{path.name.removesuffix('_throttle_count')} thermal limit"
            counts[key] = max(counts.get(key, 0), int(value))
    for chip in root.glob("sys/class/hwmon/hwmon*"):
        if _text(chip / "name") != "soctherm_oc":
            continue
        for path in sorted(chip.glob("oc[0-9]_event_cnt")):
            value = _number(path)
            if value is not None:
                counts[f"{OVER_CURRENT} {path.name[2]}"] = int(value)
    return counts


def _package_energy(root: Path) -> float | None:
    """Joules of all CPU packages (RAPL), where the system lets them be read."""
    values = [
        _number(path / "energy_uj")
        for path in root.glob("sys/class/powercap/intel-rapl:*")
        if path.name.count(":") == 1  # below it come its own parts
    ]
    known = [value for value in values if value is not None]
    return sum(known) / 1e6 if known else None


def _gpus(root: Path) -> list[Path]:
    # 17000000.ga10b and 17000000.gpu on Orin, gpu-gpc-0 on Thor
    return [p for p in root.glob("sys/class/devfreq/*") if re.search(r"ga10b|gv11b|gpu", p.name)]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return float(text) if text else None
    except ValueError:
        return None
