"""`trt-lane models`: every known detector with its size, official score, source and licence."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trt_lane.model import LaneModel

NAME = "models"
HELP = "list the known lane detectors: size, official score, source and licence"
TITLES = ("model", "input", "parameters", "GMACs", "licence", "official score", "weights", "source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the filter and the form of output."""
    parser.add_argument("family", nargs="*", help="only these families or models (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """List; rows appear as networks are measured. Needs torch, and says so where it is missing."""
    from trt_lane.model import get_model, list_families, list_models
    from trt_lane.progress import progress

    names = list_models()
    if args.family:
        families = set(list_families())
        for word in args.family:
            if word not in families:
                get_model(word)  # names what is known when this is neither
        names = [n for n in names if n in args.family or n.partition(".")[0] in args.family]
    models = [get_model(name) for name in names]
    rows = progress(map(_facts, models), len(models), "measuring")
    if args.json:
        print(json.dumps(list(rows), indent=2))
        return 0
    widths = _widths(models)
    print(_line(TITLES, widths))
    for row in rows:
        print(_line(_cells(row), widths), flush=True)
    for metric in sorted({model.metric for model in models}):
        print(f"{metric.value}: {metric.rule}")
    return 0


def _facts(model: LaneModel) -> dict:
    from trt_lane.models._size import network_size

    size = network_size(model)
    return {**_known(model), "parameters": size.parameters, "macs": size.macs}


def _known(model: LaneModel) -> dict:
    """What needs no measuring."""
    return {
        "name": model.name,
        "family": model.family,
        "input_hw": list(model.image.input_hw),
        "metric": model.metric.value,
        "metric_rule": model.metric.rule,
        "official_score": model.origin.official_score,
        "checkpoint": "bundled" if model.demo else model.origin.checkpoint,
        "licence": model.origin.licence,
        "source": model.origin.source,
    }


def _cells(row: dict) -> tuple[str, ...]:
    height, width = row["input_hw"]
    return (
        row["name"],
        f"{width}x{height}",
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e9:.2f}",
        row["licence"],
        row["official_score"] or "-",
        row["checkpoint"] or "-",
        row["source"],
    )


def _widths(models: list[LaneModel]) -> list[int]:
    """Column widths, before anything is measured: room for 999,999,999 parameters, 999 GMACs."""
    rows = [_cells({**_known(m), "parameters": 10**9 - 1, "macs": 999e9}) for m in models]
    return [max(map(len, column)) for column in zip(TITLES, *rows, strict=True)]


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()
