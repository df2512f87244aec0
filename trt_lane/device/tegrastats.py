"""One line of Jetson's tegrastats: memory, clocks, temperatures, power.

The format is that of the Jetson Linux Developer Guide, "tegrastats Utility": JetPack 4 to 7. Parts
come and go with board and rights (EMC_FREQ and the clock of GR3D_FREQ need root).
"""

from __future__ import annotations

import re
import shutil
import subprocess

from trt_lane.device.state import DeviceState

_WAIT_S = 5
_INTERVAL_MS = 200
# The supply of the whole module, under the names that boards give it.
_WHOLE = ("VDD_IN", "VIN", "POM_5V_IN")
# On AGX Orin fed by VIN_SYS_5V0, which counts it already.
_PART_OF_ANOTHER = ("VDDQ_VDD2_1V8AO",)


def parse(line: str) -> DeviceState:
    """What one line says; a part that is not there is absent."""
    clocks: dict[str, float] = {}
    cpus = re.search(r"\bCPU \[([^\]]*)\]", line)
    if cpus:
        running = [int(f) for f in re.findall(r"@([0-9]+)", cpus[1])]
        if running:
            clocks["cpu"] = float(max(running))
    for name, key in (("GR3D_FREQ", "gpu"), ("EMC_FREQ", "memory")):
        found = re.search(rf"\b{name} (?:[0-9]+%)?@\[?([0-9]+)", line)
        if found:
            clocks[key] = float(found[1])
    temperatures = {
        name.lower(): float(value)
        for name, value in re.findall(r"\b([A-Za-z][A-Za-z0-9]*)@(-?[0-9.]+)C\b", line)
        # The power chip's sensor is a dummy that always says 100; a sensor that is off says -256.
        if name != "PMIC" and float(value) > -200
    }
    power = {
        name: int(value) / 1000
        for name, value in re.findall(r"\b([A-Z][A-Z0-9_]*) ([0-9]+)(?:mW)?/[0-9]+(?:mW)?\b", line)
        if name not in ("RAM", "SWAP", "IRAM")
    }
    memory = re.search(r"\bRAM ([0-9]+)/[0-9]+MB", line)
    return DeviceState(
        clocks_mhz=clocks,
        temperatures_c=temperatures,
        power_w=_module_power(power),
        memory_used_mb=float(memory[1]) if memory else None,
    )


def _module_power(rails: dict[str, float]) -> float | None:
    """Watts of the module: of its supply, else of all rails that none of the others feeds."""
    for name in _WHOLE:
        if name in rails:
            return rails[name]
    own = [watts for name, watts in rails.items() if name not in _PART_OF_ANOTHER]
    return sum(own) if own else None


def read() -> DeviceState | None:
    """What tegrastats says now; None where there is none or it says nothing."""
    program = shutil.which("tegrastats")
    if program is None:
        return None
    child = subprocess.Popen(
        [program, "--interval", str(_INTERVAL_MS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        # It never ends by itself, and its output may be held back: one line, or nothing in time.
        line, _ = child.communicate(timeout=_INTERVAL_MS / 1000 * 3)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            line, _ = child.communicate(timeout=_WAIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            line, _ = child.communicate()
    lines = [text for text in (line or "").splitlines() if "RAM " in text]
    return parse(lines[-1]) if lines else None
