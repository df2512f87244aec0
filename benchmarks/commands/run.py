"""`python -m benchmarks run`: one engine on this device, as report.json and report.html."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "run"
HELP = "latency by stage, scenarios and accuracy of one engine, as report.json and report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    from benchmarks.machine import usable_cores

    parser.add_argument("artifact", type=Path, help="folder of an engine (of artifact.json)")
    parser.add_argument(
        "--float-onnx",
        type=Path,
        help="FP32 graph of the same weights: for agreement and LDS (default: without)",
    )
    parser.add_argument(
        "--data",
        default="synthetic:test",
        help="frames: synthetic, culane:DIR, llamas:DIR, images:DIR … (default synthetic:test)",
    )
    parser.add_argument(
        "--frames", type=int, default=300, help="for the accuracy; 0: latency alone (default 300)"
    )
    parser.add_argument("--out", type=Path, help="folder of the report (default ARTIFACT/bench)")
    parser.add_argument(
        "--threads",
        type=int,
        default=usable_cores(),
        help="of the CPU runtime (default: all cores, here %(default)s)",
    )
    parser.add_argument("--starts", type=int, default=6, help="new processes at least (default 6)")
    parser.add_argument(
        "--most-starts", type=int, default=12, help="at most, while they differ (default 12)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=18,
        help="measured in --starts processes, in s (default 18)",
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.02,
        help="more processes while half the 95 %% interval of their mean is above this share of "
        "the median (default 0.02)",
    )
    parser.add_argument(
        "--scenario-seconds", type=float, default=2, help="of each, in s; 0: none (default 2)"
    )
    parser.add_argument(
        "--slow-down",
        type=float,
        default=0,
        help="add this share to every frame's time, to test compare (default 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write, print."""
    from benchmarks.bench import Plan, bench
    from benchmarks.bench_text import text
    from benchmarks.html import page
    from benchmarks.measure import Conditions
    from trt_lane.files import check_writable, write_bytes

    out = args.out or args.artifact / "bench"
    if args.artifact.exists():  # else that is the mistake, and no folder must come of it
        check_writable(out / "report.json")  # before minutes of measuring
    conditions = Conditions(
        args.threads, args.starts, max(args.most_starts, args.starts), args.seconds, args.noise,
        args.slow_down,
    )  # fmt: skip
    plan = Plan(
        args.artifact, args.data, args.frames, args.float_onnx, conditions, args.scenario_seconds
    )
    report = bench(plan, lambda line: print(line, flush=True))
    report.save(out / "report.json")
    write_bytes(out / "report.html", page(report).encode())
    print(text(report))
    print(f"report     {out / 'report.html'}")
    return 0
