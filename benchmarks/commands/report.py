"""`python -m benchmarks report`: report.json again as report.html, anywhere."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "report"
HELP = "make report.html of a report.json; needs nothing else"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("report", type=Path, help="report.json or its folder")
    parser.add_argument("--out", type=Path, help="default: report.html beside it")


def run(args: argparse.Namespace) -> int:
    """Read, write, say where."""
    from benchmarks.bench_report import BenchmarkReport
    from benchmarks.html import page
    from trt_lane.files import write_bytes

    report = BenchmarkReport.load(args.report)
    folder = args.report if args.report.is_dir() else args.report.parent
    out = args.out or folder / "report.html"
    write_bytes(out, page(report).encode())
    print(out)
    return 0
