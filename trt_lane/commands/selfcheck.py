"""`trt-lane selfcheck`: what this device is, and whether its engine is right and fast enough."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

NAME = "selfcheck"
HELP = "say what this device is, run the golden frames, time them; exit status 1 when it fails"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("--root", type=Path, help="where engines live (default: /var/lib/trt_lane)")
    parser.add_argument("--frames", type=int, default=100, help="frames to time (default 100)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    from trt_lane.device.identity import identity
    from trt_lane.errors import TrtLaneError
    from trt_lane.installing.store import Store
    from trt_lane.selfcheck import selfcheck

    try:
        found = selfcheck(Store(args.root).current_folder(), args.frames, args.threads)
    except TrtLaneError as error:
        # A device without a sound engine is just the one whose facts are asked for.
        facts = "; ".join(f"{name} {value}" for name, value in identity().items())
        raise TrtLaneError(f"{error} ({facts})") from None
    if args.json:
        print(json.dumps(found.to_dict(), indent=2))
        return 0 if found.passed else 1
    facts, artifact = found.identity, found.artifact
    clocks = ", ".join(f"{part} {mhz:.0f} MHz" for part, mhz in found.state.clocks_mhz.items())
    heat = "" if found.temperature_c is None else f", {found.temperature_c:.0f} C"
    system = [facts["system"], facts["machine"]]
    system += [f"JetPack {facts['jetpack']}"] if "jetpack" in facts else []
    system += [f"L4T {facts['l4t']}"] if "l4t" in facts else []
    gpu = "" if found.compute_capability is None else f", sm_{found.compute_capability}"
    driver = f", driver {facts['driver']}" if "driver" in facts else ""
    budget = "no budget" if found.budget_ms is None else f"budget {found.budget_ms:g} ms"
    kept = "" if found.budget_ms is None else (": kept" if found.in_budget else ": MISSED")
    rows = {
        "device": facts.get("board") or facts.get("cpu", "?"),
        "system": ", ".join(system),
        "runtime": f"{found.runtime}{gpu}{driver}",
        "power": f"{facts.get('power_mode', 'no power modes')}, clocks locked: "
        f"{facts.get('clocks_locked', 'unknown')}",
        "clocks": (clocks or "unknown") + heat,
        "engine": f"{artifact.folder.name}, {artifact.precision}, decoder "
        f"{artifact.info.get('decoders', 'numpy')}",
        "golden": str(found.golden),
        "latency": f"p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms of "
        f"{len(found.latencies_ms)} frames, {budget}{kept}",
    }
    for name, value in rows.items():
        print(f"{name:8} {value}")
    print(f"report   {found.report_line()}")
    return 0 if found.passed else 1
