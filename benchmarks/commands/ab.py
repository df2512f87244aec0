"""`python -m benchmarks ab`: two engines, or two states of the code, by turns and compared."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "ab"
HELP = "measure two engines by turns and compare: the gate for machines that are shared or drift"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    from benchmarks.commands.compare import add_gate
    from benchmarks.machine import usable_cores
    from benchmarks.measure import ROOT

    parser.add_argument("base", type=Path, help="folder of an engine to compare with")
    parser.add_argument("new", type=Path, help="folder of the engine to judge")
    parser.add_argument(
        "--base-code",
        type=Path,
        default=ROOT,
        help="repository whose code runs base (default: this one)",
    )
    parser.add_argument("--data", default="synthetic:test", help="frames (default synthetic:test)")
    parser.add_argument(
        "--frames", type=int, default=300, help="for F1; 0: latency alone (default 300)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=usable_cores(),
        help="of the CPU runtime (default: all cores, here %(default)s)",
    )
    parser.add_argument("--starts", type=int, default=6, help="new processes of each (default 6)")
    parser.add_argument("--most-starts", type=int, default=16, help="if noisy (default 16)")
    parser.add_argument(
        "--seconds", type=float, default=12, help="measured of each, in s (default 12)"
    )
    add_gate(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/ab"),
        help="gets base/ and new/ with a report each, and verdict.json (default build/ab)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write, print; the exit status is the verdict."""
    from benchmarks.bench import Plan, bench_in_turn
    from benchmarks.commands.compare import fresh, text
    from benchmarks.compare import check_gates, compare
    from benchmarks.html import page
    from benchmarks.measure import ROOT, Conditions
    from trt_lane.files import write_bytes, write_json

    check_gates(args.gate)
    fresh(args.out / "verdict.json")
    conditions = Conditions(
        args.threads, args.starts, max(args.most_starts, args.starts), args.seconds
    )
    plans = [
        Plan(folder, args.data, args.frames, None, conditions, 0, code.resolve())
        for folder, code in ((args.base, args.base_code), (args.new, ROOT))
    ]
    reports = bench_in_turn(plans, lambda line: print(line, flush=True))
    for side, report in zip(("base", "new"), reports, strict=True):
        report.save(args.out / side / "report.json")
        write_bytes(args.out / side / "report.html", page(report).encode())
    outcome = compare(*reports, args.gate)
    print(text(outcome))
    write_json(args.out / "verdict.json", outcome.to_dict())
    return outcome.exit_status
