"""Writing lanes the way the data sets' own evaluators read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trt_lane.datasets.base import Dataset
from trt_lane.datasets.culane_lines import lines_name, write_lines
from trt_lane.datasets.llamas import LlamasDataset, prediction_name
from trt_lane.files import write_bytes
from trt_lane.lanes import LaneSet
from trt_lane.metrics.tusimple import file_columns
from trt_lane.model import Metric

TUSIMPLE_FILE = "predictions.json"


def write_predictions(
    dataset: Dataset, predictions: Sequence[LaneSet], folder: Path, run_time_ms: float = 0.0
) -> Path:
    """Write one LaneSet per frame in the data set's own format and say where.

    Returns:
        The JSON-lines file for TuSimple (`run_time_ms` is written into it), else the folder in
        which `<name>.lines.txt` files mirror the images (of LLAMAS: its labels, drive/frame).
    """
    labels = [dataset.label(index) for index in range(len(dataset))]
    if dataset.metric is Metric.TUSIMPLE:
        rows = [label.h_samples for label in labels]
        names = [label.name for label in labels]
        path = folder / TUSIMPLE_FILE
        write_tusimple(path, names, predictions, rows, run_time_ms)
        return path
    names = [label.name for label in labels]
    if isinstance(dataset, LlamasDataset):
        names = list(map(prediction_name, names))
    write_culane(folder, names, predictions)
    return folder


def write_culane(folder: Path, names: Sequence[str], predictions: Sequence[LaneSet]) -> None:
    """Write `<name>.lines.txt` below `folder` for every image, each atomically.

    An image without lanes gets an empty file.
    """
    for name, lanes in zip(names, predictions, strict=True):
        write_lines(folder / lines_name(name), lanes.lanes())


def write_tusimple(
    path: Path,
    names: Sequence[str],
    predictions: Sequence[LaneSet],
    h_samples: Sequence[Sequence[float]],
    run_time_ms: float = 0.0,
) -> None:
    """Write TuSimple's JSON lines atomically: x at each row, -2 where a lane has no point."""
    lines = []
    for name, lanes, rows in zip(names, predictions, h_samples, strict=True):
        record = {
            "raw_file": name,
            "lanes": file_columns(lanes, rows),
            "h_samples": list(rows),
            "run_time": run_time_ms,
        }
        lines.append(json.dumps(record, allow_nan=False) + "\n")
    write_bytes(path, "".join(lines).encode())
