"""`python -m benchmarks alarm-rate`: how often `compare` is wrong on this very machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench_report import BenchmarkReport

NAME = "alarm-rate"
HELP = "compare an engine with itself and with planted faults, again and again: is compare right?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="folder of an engine")
    parser.add_argument("--data", default="synthetic:test", help="frames (default synthetic:test)")
    parser.add_argument(
        "--frames", type=int, default=300, help="for planted losses of F1; 0: none (default 300)"
    )
    parser.add_argument("--pairs", type=int, default=20, help="of each kind (default 20)")
    parser.add_argument(
        "--slow-down",
        type=float,
        default=0.1,
        help="planted, as a share of a frame's time (default 0.1)",
    )
    parser.add_argument("--threads", type=int, default=1, help="of the CPU runtime (default 1)")
    parser.add_argument(
        "--seconds", type=float, default=6, help="measured for each report, in s (default 6)"
    )
    parser.add_argument(
        "--in-turn", action="store_true", help="measure by turns, as `ab` does, not one by one"
    )
    parser.add_argument("--out", type=Path, help="JSON, written after every pair")


def run(args: argparse.Namespace) -> int:
    """Measure, print; exit status 1 when compare was wrong more often than it may."""
    from benchmarks.alarm_rate import alarm_rate, planted_losses, told
    from benchmarks.bench import Plan, bench, bench_in_turn
    from benchmarks.measure import Conditions
    from trt_lane.datasets import open_dataset
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import check_writable, write_json
    from trt_lane.metrics.report import DRAWN

    if args.out:
        check_writable(args.out)  # before minutes of measuring
    if args.pairs < 1:
        raise TrtLaneError(f"--pairs is {args.pairs}; expected 1 or more")

    if args.frames and open_dataset(args.data).metric not in DRAWN:
        raise TrtLaneError(
            f"{args.data} has no F1 to lose; expected a data set with CULane's, CurveLanes' or "
            "LLAMAS', or --frames 0"
        )

    def plan(slow_down: float, frames: int = 0) -> Plan:
        conditions = Conditions(args.threads, seconds=args.seconds, slow_down=slow_down)
        return Plan(args.artifact, args.data, frames, None, conditions, 0)

    def measured(slow_downs: Sequence[float]) -> Sequence[BenchmarkReport]:
        plans = [plan(slow_down) for slow_down in slow_downs]
        return bench_in_turn(plans) if args.in_turn else [bench(p) for p in plans]

    def keep(found: dict) -> None:
        if args.out:
            write_json(args.out, found)

    found = alarm_rate(measured, args.pairs, args.slow_down, lambda t: print(t, flush=True), keep)
    false = found["same_engine"].get("worse", 0)
    missed = found["slower_engine"].get("no worse", 0)
    same, slower = (dict(found[kind]) for kind in ("same_engine", "slower_engine"))
    print(f"same engine    {same}: {false} false alarms in {args.pairs}")
    print(f"{100 * args.slow_down:.0f} % slower    {slower}: {missed} missed")
    for one in found["outcomes"]:
        if one["verdict"] != ("worse" if one["planted"] else "no worse"):
            print(f"    {100 * one['planted']:g} % planted, {one['verdict']}: {told(one)}")
    if args.frames:
        found["lost_f1"] = planted_losses(bench(plan(0.0, args.frames)), args.pairs)
        missed += found["lost_f1"].get("no worse", 0)
        print(f"0.5 point of F1 lost    {found['lost_f1']}")
    keep(found)
    return int(missed > 0 or false > args.pairs / 20)
