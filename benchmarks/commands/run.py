"""`python -m benchmarks run`: one engine on this device, as report.json and report.html."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "run"
HELP = "latency by stage, scenarios and accuracy of one engine, as report.json and report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    from benchmarks.machine import usable_cores

    parser.add_argument("artifact", type=Path, help="folder of an engine")
    parser.add_argument("--float-onnx", type=Path, help="FP32 graph of the same weights")
    parser.add_argument("--data", default="synthetic:test", help="frames (default synthetic:test)")
    parser.add_argument(
        "--frames", type=int, default=300, help="for the accuracy; 0: latency alone (default 300)"
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default ARTIFACT/bench)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the CPU runtime")
    parser.add_argument("--starts", type=int, default=6, help="new processes (default 6)")
    parser.add_argument("--most-starts", type=int, default=12, help="if noisy (default 12)")
    parser.add_argument("--seconds", type=float, default=18, help="measured in all (default 18)")
    parser.add_argument(
        "--noise", type=float, default=0.02, help="go on above this relative error (default 0.02)"
    )
    parser.add_argument(
        "--scenario-seconds", type=float, default=2, help="of each; 0: none (default 2)"
    )
    parser.add_argument(
        "--slow-down", type=float, default=0, help="add this share to every frame, to test compare"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write, print."""
    from benchmarks.bench import Plan, bench
    from benchmarks.bench_text import text
    from benchmarks.html import page
    from benchmarks.measure import Conditions
    from trt_lane.files import write_bytes

    conditions = Conditions(
        args.threads, args.starts, max(args.most_starts, args.starts), args.seconds, args.noise,
        args.slow_down,
    )  # fmt: skip
    plan = Plan(
        args.artifact, args.data, args.frames, args.float_onnx, conditions, args.scenario_seconds
    )
    report = bench(plan, lambda line: print(line, flush=True))
    out = args.out or args.artifact / "bench"
    report.save(out / "report.json")
    write_bytes(out / "report.html", page(report).encode())
    print(text(report))
    print(f"report     {out / 'report.html'}")
    return 0
