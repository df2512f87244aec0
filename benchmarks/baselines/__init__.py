"""Reports to compare with, one per target, model and recipe: benchmarks/baselines/TARGET/*.json."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from benchmarks.bench_report import BenchmarkReport
from trt_lane.errors import TrtLaneError

FOLDER = Path(__file__).parent
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def baseline_path(report: BenchmarkReport, folder: Path = FOLDER) -> Path:
    """Where the baseline of such a report lies.

    Raises:
        TrtLaneError: a name in it that would lead elsewhere.
    """
    recipe = report.recipe or "float"
    for name in (report.target, report.model, recipe):
        if not _PLAIN.fullmatch(name):
            raise TrtLaneError(f"a report is of {name!r}; expected letters, digits, '.', '_', '-'")
    return folder / report.target / f"{report.model}-{recipe}.json"


def baseline_of(report: BenchmarkReport, folder: Path = FOLDER) -> BenchmarkReport:
    """The baseline for a report; none is an error that says how to make one."""
    path = baseline_path(report, folder)
    if not path.is_file():
        raise TrtLaneError(
            f"no baseline {path} for {report.model} on {report.target}; make one on a quiet "
            "device with: python -m benchmarks compare REPORT --save-baseline"
        )
    return BenchmarkReport.load(path)


def save_baseline(report: BenchmarkReport, folder: Path = FOLDER) -> Path:
    """Keep a report as baseline, without its pictures, which git need not hold."""
    path = baseline_path(report, folder)
    replace(report, pictures=(), layers=(), peers=()).save(path)
    return path
