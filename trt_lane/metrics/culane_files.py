"""F1 of folders of `.lines.txt` files, CULane's or CurveLanes', in parallel for long lists."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from trt_lane.datasets.culane import read_categories
from trt_lane.datasets.culane_lines import lines_name, read_lines
from trt_lane.datasets.image_list import read_list
from trt_lane.errors import TrtLaneError
from trt_lane.metrics import culane, curvelanes
from trt_lane.metrics.culane import FRAME_HW, IOU, WIDTH_PX, CulaneCounts
from trt_lane.model import Metric
from trt_lane.progress import progress

# Starting workers takes about as long as scoring this many images.
IMAGES_FOR_A_POOL = 500
CHUNK = 64


@dataclass(frozen=True)
class FilesScore:
    """Counts over the images of a list, and over those of each category."""

    images: int
    without_prediction: int
    total: CulaneCounts
    categories: dict[str, CulaneCounts] = field(default_factory=dict)


def score_files(
    pred_folder: Path,
    anno_folder: Path,
    list_file: Path,
    iou: float = IOU,
    frame_hw: tuple[int, int] = FRAME_HW,
    width_px: int = WIDTH_PX,
    category_folder: Path | None = None,
    jobs: int | None = None,
    metric: Metric = Metric.CULANE,
) -> FilesScore:
    """Score every image of the list; draws a progress bar where stderr is a terminal.

    Args:
        pred_folder: holds `<image>.lines.txt`; a missing file is an image without lanes.
        anno_folder: likewise.
        list_file: image names relative to both folders.
        iou: the threshold.
        frame_hw: size of the frames; CULane draws lanes at it.
        width_px: width at which CULane draws lanes; CurveLanes' is fixed.
        category_folder: lists named after categories, as CULane's list/test_split.
        jobs: processes; None for one per core on long lists and one on short ones.
        metric: CULane's or CurveLanes'.

    Raises:
        TrtLaneError: a folder or list is missing, a whole folder holds none of the files, or a file
            is damaged.
    """
    names = read_list(list_file)
    if not names:
        raise TrtLaneError(f"{list_file} names no image; expected one per line")
    without_prediction = _check_folder(pred_folder, names, "prediction")
    _check_folder(anno_folder, names, "annotation")
    category_of = {}
    if category_folder is not None:
        category_of = read_categories(category_folder)
        if not category_of.keys() & set(names):
            raise TrtLaneError(
                f"{category_folder} has no list (*.txt) with an image of {list_file}; "
                "expected CULane's list/test_split"
            )
    scorer = partial(_culane, frame_hw=frame_hw, width_px=width_px, iou=iou)
    if metric is Metric.CURVELANES:
        scorer = partial(curvelanes.score_image, frame_hw=frame_hw, threshold=iou)
    task = partial(_score_one, pred_folder, anno_folder, scorer)
    total, categories = CulaneCounts(), dict.fromkeys(category_of.values(), CulaneCounts())
    with ExitStack() as stack:
        counted = in_parallel(task, names, jobs, stack)
        for name, counts in zip(names, progress(counted, len(names), "scoring"), strict=True):
            total += counts
            if name in category_of:
                categories[category_of[name]] += counts
    return FilesScore(len(names), without_prediction, total, categories)


def in_parallel(task: partial, names: list[str], jobs: int | None, stack: ExitStack) -> Iterator:
    """The task's answers for all names in order; in several processes for long lists.

    Args:
        task: takes a name.
        names: of images.
        jobs: processes; None for one per core on long lists and one on short ones.
        stack: ends the processes with itself.
    """
    if jobs is None:
        jobs = (os.cpu_count() or 1) if len(names) >= IMAGES_FOR_A_POOL else 1
    if jobs == 1:
        return map(task, names)
    # spawn: a fork of a process that has run OpenCV's threads may hang.
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_prepare_worker)
    # On an error or Ctrl-C what has not begun is dropped.
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool.map(task, names, chunksize=CHUNK)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, once


def _culane(
    pred: list[np.ndarray],
    anno: list[np.ndarray],
    frame_hw: tuple[int, int],
    width_px: int,
    iou: float,
) -> CulaneCounts:
    return culane.score_image(pred, anno, frame_hw, width_px, (iou,))[0]


def _score_one(
    pred_folder: Path,
    anno_folder: Path,
    scorer: Callable[[list[np.ndarray], list[np.ndarray]], CulaneCounts],
    name: str,
) -> CulaneCounts:
    lanes = [
        read_lines(path) if path.exists() else []
        for path in (folder / lines_name(name) for folder in (pred_folder, anno_folder))
    ]
    return scorer(*lanes)


def _check_folder(folder: Path, names: list[str], what: str) -> int:
    """How many images have no file there; none at all is surely a wrong folder."""
    if not folder.is_dir():
        raise TrtLaneError(f"no {what} folder {folder}")
    missing = sum(not (folder / lines_name(name)).exists() for name in names)
    if missing == len(names):
        raise TrtLaneError(
            f"{folder} holds no {what} for any of {len(names)} images of the list; "
            f"expected files such as {folder / lines_name(names[0])}"
        )
    return missing
