"""`python -m benchmarks plugins`: compiled decoders and pre-processing against numpy and OpenCV."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "plugins"
HELP = "time compiled decoders and pre-processing against numpy and OpenCV on one core, in turn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("--library", type=Path, help="default: what `make plugins-host` made")
    parser.add_argument("--rounds", type=int, default=40, help="of each (default 40)")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from benchmarks.machine import machine
    from benchmarks.plugin_speed import speeds
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import check_writable, write_json
    from trt_lane.plugin_library import PluginLibrary, find_host_library

    if args.out:
        check_writable(args.out)  # before minutes of measuring
    if args.rounds < 1:
        raise TrtLaneError(f"--rounds is {args.rounds}; expected 1 or more")
    library = PluginLibrary(args.library) if args.library else find_host_library()
    if library is None:
        raise TrtLaneError("no compiled decoders here; run: make plugins-host")
    facts = machine(1)
    print(f"{facts['cpu']}, one core, {args.rounds} rounds of each in turn")
    print(f"{'ms':48}{'numpy':>9}{'compiled':>10}   times as fast (95 %); as the official style")
    rows = []
    for speed in speeds(library, args.rounds):
        row = speed.to_dict()
        rows.append(row)
        ratios = [row[k] for k in row if k.startswith("times_as_fast")]
        told = (f"{r['value']:.1f} ({r['low']:.1f} to {r['high']:.1f})" for r in ratios)
        print(
            f"{row['name']:48}{row['numpy_ms']:9.3f}{row['compiled_ms']:10.4f}   {'; '.join(told)}",
            flush=True,
        )
    if args.out:
        write_json(args.out, {"schema": 1, "machine": facts, "rows": rows})
    return 0
