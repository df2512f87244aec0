"""LLAMAS' F1 of a folder of `.lines.txt` predictions against a folder of its label files."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from trt_lane.datasets.base import natural_order
from trt_lane.datasets.culane_lines import lines_name, read_lines
from trt_lane.datasets.llamas_json import lanes_of, read_columns
from trt_lane.errors import TrtLaneError
from trt_lane.metrics.culane import IOU, CulaneCounts
from trt_lane.metrics.culane_files import FilesScore, in_parallel
from trt_lane.metrics.llamas import match_image
from trt_lane.progress import progress


def score_files(
    pred_folder: Path, label_folder: Path, iou: float = IOU, jobs: int | None = None
) -> FilesScore:
    """Score every label; draws a progress bar where stderr is a terminal.

    Args:
        pred_folder: holds drive/frame.lines.txt for each drive/frame.json, wherever below
            `label_folder` that drive is.
        label_folder: LLAMAS' labels of a split, as DIR/labels/valid.
        iou: the threshold.
        jobs: processes; None for one per core on long lists and one on short ones.

    Raises:
        TrtLaneError: a folder or a prediction is missing (the official program ends there too), or
            a file is damaged.
    """
    for folder, what in ((pred_folder, "prediction"), (label_folder, "label")):
        if not folder.is_dir():
            raise TrtLaneError(f"no {what} folder {folder}")
    names = [file.relative_to(label_folder).as_posix() for file in label_folder.rglob("*.json")]
    names.sort(key=natural_order)
    if not names:
        raise TrtLaneError(f"{label_folder} holds no *.json; expected LLAMAS' labels/valid")
    preds = [_pred_path(pred_folder, label_folder / name) for name in names]
    missing = [path for path in preds if not path.is_file()]
    if missing:
        raise TrtLaneError(
            f"{pred_folder} lacks {len(missing)} of {len(names)} labelled images, first "
            f"{missing[0].relative_to(pred_folder)}; one without lanes has an empty file"
        )
    task = partial(_score_one, pred_folder, label_folder, iou)
    total = CulaneCounts()
    with ExitStack() as stack:
        for counts in progress(in_parallel(task, names, jobs, stack), len(names), "scoring"):
            total += counts
    return FilesScore(len(names), 0, total)


def _pred_path(pred_folder: Path, label: Path) -> Path:
    return pred_folder / label.absolute().parent.name / lines_name(label.name)


def _score_one(pred_folder: Path, label_folder: Path, iou: float, name: str) -> CulaneCounts:
    label = label_folder / name
    pred = read_lines(_pred_path(pred_folder, label))
    return match_image(pred, lanes_of(read_columns(label))).counts(iou)
