"""TuSimple's files: JSON lines with `raw_file`, `lanes` (x per row, -2 absent) and more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trt_lane.datasets.base import read_text
from trt_lane.errors import TrtLaneError


@dataclass(frozen=True, eq=False)
class TusimpleRecord:
    """One line of a TuSimple file.

    Attributes:
        raw_file: the image's name.
        lanes: float64 (L, R) columns, NaN where there is no point; None when the line has none.
        h_samples: float64 (R,) rows; None in prediction files.
        run_time_ms: of predictions; None in label files.
        place: file and line, for messages.
    """

    raw_file: str
    lanes: np.ndarray | None
    h_samples: np.ndarray | None
    run_time_ms: float | None
    place: str


def read_records(path: Path) -> list[TusimpleRecord]:
    """All records of a file; anything that is not as TuSimple writes it names file and line."""
    records, first_line = [], {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        record = _parse(line, place)
        if record.raw_file in first_line:
            raise TrtLaneError(
                f"{place}: {record.raw_file} was in line {first_line[record.raw_file]} already; "
                "remove one"
            )
        first_line[record.raw_file] = number
        records.append(record)
    if not records:
        raise TrtLaneError(f"{path} is empty; expected a JSON object per line")
    return records


def _parse(line: str, place: str) -> TusimpleRecord:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TrtLaneError(f"{place}: not JSON ({error}); expected an object per line") from None
    if not isinstance(value, dict) or not isinstance(value.get("raw_file"), str):
        raise TrtLaneError(f"{place}: no raw_file; expected an object with raw_file and lanes")
    rows = None
    if "h_samples" in value:
        rows = _numbers(value["h_samples"], f"{place}: h_samples")
        if not len(rows):
            raise TrtLaneError(f"{place}: h_samples is empty; expected rows in pixels")
    lanes = None
    if "lanes" in value:
        lanes = _lanes(value["lanes"], rows, place)
    run_time_ms = value.get("run_time")
    if run_time_ms is not None:
        run_time_ms = float(_numbers([run_time_ms], f"{place}: run_time")[0])
    return TusimpleRecord(value["raw_file"], lanes, rows, run_time_ms, place)


def _lanes(value: object, rows: np.ndarray | None, place: str) -> np.ndarray:
    if not isinstance(value, list):
        raise TrtLaneError(f"{place}: lanes is {type(value).__name__}; expected a list of lists")
    lanes = [_numbers(lane, f"{place}: lane {i}") for i, lane in enumerate(value)]
    count = len(rows) if rows is not None else len(lanes[0]) if lanes else 0
    for i, lane in enumerate(lanes):
        if len(lane) != count:
            wanted = "h_samples" if rows is not None else "the first lane"
            raise TrtLaneError(
                f"{place}: lane {i} has {len(lane)} values; expected {count}, as many as {wanted}"
            )
    xs = np.asarray(lanes, np.float64).reshape(len(lanes), count)
    return np.where(xs >= 0, xs, np.nan)


def _numbers(value: object, what: str) -> np.ndarray:
    usable = isinstance(value, list) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in value
    )
    if not usable:
        raise TrtLaneError(f"{what} is {str(value)[:40]!r}; expected a list of numbers")
    try:
        return np.asarray(value, np.float64)
    except OverflowError:
        raise TrtLaneError(f"{what} holds a number beyond double precision") from None
