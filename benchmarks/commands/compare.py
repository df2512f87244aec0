"""`python -m benchmarks compare`: no worse (0), worse (1) or not comparable (2), with reasons."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.compare import Outcome

NAME = "compare"
HELP = "judge a report against another one: exit 0 no worse, 1 worse, 2 not comparable"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument(
        "reports", type=Path, nargs="+", metavar="REPORT",
        help="BASE and NEW: report.json or its folder; NEW alone: against its target's baseline",
    )  # fmt: skip
    add_gate(parser)
    parser.add_argument("--out", type=Path, help="also write the verdicts as JSON to this file")
    parser.add_argument(
        "--save-baseline",
        action="store_true",
        help="keep the one report as benchmarks/baselines/TARGET/MODEL-RECIPE.json",
    )


def add_gate(parser: argparse.ArgumentParser) -> None:
    """Define which figures decide."""
    parser.add_argument(
        "--gate",
        nargs="+",
        metavar="FIGURE",
        help="figures that decide, as 'total p99' 'F1 at .75' (default: 'total p50', and 'F1', "
        "'accuracy' or, without labels, 'agreement F1'; 'total p10' where it is worse)",
    )


def run(args: argparse.Namespace) -> int:
    """Compare and print; the exit status is the verdict."""
    from benchmarks.baselines import baseline_of, save_baseline
    from benchmarks.bench_report import BenchmarkReport
    from benchmarks.compare import check_gates, compare
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import write_json

    check_gates(args.gate)
    if args.out:
        fresh(args.out)
    if len(args.reports) > 2:
        raise TrtLaneError(f"{len(args.reports)} reports; expected BASE and NEW, or NEW alone")
    new = BenchmarkReport.load(args.reports[-1])
    if args.save_baseline:
        if len(args.reports) > 1:
            raise TrtLaneError("--save-baseline takes one report")
        print(f"baseline   {save_baseline(new)}")
        for warning in new.warnings():
            print(f"! {warning}")
        return 0
    base = BenchmarkReport.load(args.reports[0]) if len(args.reports) == 2 else baseline_of(new)
    outcome = compare(base, new, args.gate)
    print(text(outcome))
    if args.out:
        write_json(args.out, outcome.to_dict())
    return outcome.exit_status


def fresh(verdict: Path) -> None:
    """Take away the verdict of an earlier run: a failure must not leave it to be read."""
    from trt_lane.files import check_writable

    check_writable(verdict)
    verdict.unlink(missing_ok=True)


def text(outcome: Outcome) -> str:
    """A line per figure, the reasons, and the verdict."""
    lines = [f"{'figure':18}{'base':>10}{'new':>10}   change, 95 % interval (+ is worse)"]
    for v in outcome.verdicts:
        values = "".join(f"{'-':>10}" if x is None else f"{x:10.4g}" for x in (v.base, v.new))
        change = ""
        if v.change is not None:
            change = f"{v.change:+.2f} ({v.low:+.2f} to {v.high:+.2f}) {v.unit}"
        mark = "*" if v.gates else " "
        lines.append(f"{v.figure:16}{mark} {values}   {change:38} {v.word.value}; {v.reason}")
    lines += [f"! {reason}" for reason in outcome.not_comparable]
    words = {0: "no worse", 1: "WORSE", 2: "NOT COMPARABLE"}
    lines.append(f"{words[outcome.exit_status]} (figures with * decide)")
    return "\n".join(lines)
