"""CurveLanes' layout: train/, valid/ and test/, each with a list, images/ and labels/."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import numpy as np

from trt_lane.datasets.base import read_text
from trt_lane.datasets.culane_lines import FARTHEST_PX
from trt_lane.datasets.image_list import ImageListDataset
from trt_lane.errors import TrtLaneError
from trt_lane.model import Metric

KIND = "curvelanes"
ARGUMENT = "DIR with valid/valid.txt, or another list, as DIR/train/train.txt"
SPLITS = ("valid", "train", "test")
IMAGES, LABELS = "images", "labels"
SUFFIX = ".lines.json"


class CurveLanesDataset(ImageListDataset):
    """Images of one list.

    Layout and label files as README.md of SoulmateB/CurveLanes describes them. The test split has
    no public labels. Frames are 2560x1440, 1570x660 or 1280x720. Lanes run upwards, as in the
    official example; one that does not is turned round, which may move its drawing by a pixel: the
    scorer steps along a lane from its first point.

    Args:
        root: folder of one split, which the names of the list are relative to.
        list_file: an image per line.
    """

    def __init__(self, root: Path, list_file: Path) -> None:
        super().__init__("CurveLanes", KIND, Metric.CURVELANES, root, list_file)

    def lane_file(self, image_name: str) -> str:
        """images/x.jpg has labels/x.lines.json."""
        return label_name(image_name)

    def lanes_in(self, path: Path) -> list[np.ndarray]:
        """The lanes of a .lines.json."""
        return read_lanes(path)


def open(argument: str) -> CurveLanesDataset:
    """Open DIR (its valid split, else its only one), one split's folder, or one list file."""
    path = Path(argument).expanduser()
    if path.is_file():
        return CurveLanesDataset(path.parent, path)
    if not path.is_dir():
        raise TrtLaneError(f"no folder {path}; expected {ARGUMENT}")
    lists = _lists(path)
    if len(lists) > 1 and lists[0].stem == SPLITS[0]:
        lists = lists[:1]
    if len(lists) != 1:
        found = ", ".join(str(file.relative_to(path)) for file in lists) or "no valid/valid.txt"
        raise TrtLaneError(f"{path} has {found}; expected {ARGUMENT}")
    return CurveLanesDataset(lists[0].parent, lists[0])


def recognise(path: Path) -> int:
    """2 for CurveLanes' folder, one of its splits' or a list in one, where images/ is; else 0."""
    lists = [path] if path.is_file() and path.suffix == ".txt" else _lists(path)
    return 2 * any((file.parent / IMAGES).is_dir() for file in lists)


def label_name(image_name: str) -> str:
    """Name of the label file: images/x.jpg has labels/x.lines.json."""
    path = PurePosixPath(image_name)
    parts = list(path.parent.parts)
    if IMAGES in parts:
        parts[parts.index(IMAGES)] = LABELS
    return str(PurePosixPath(*parts, path.stem + SUFFIX))


def read_lanes(path: Path) -> list[np.ndarray]:
    """The lanes of a label file, each float64 (P, 2) in the order written; none without points.

    A lane of a single point counts, as officially, though nothing can match it.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise TrtLaneError(f"{path} is not JSON ({error}); copy it again") from None
    lanes = value.get("Lines") if isinstance(value, dict) else None
    if not isinstance(lanes, list) or not all(isinstance(lane, list) for lane in lanes):
        raise TrtLaneError(f"{path} has no list of Lines; expected CurveLanes' label")
    return [
        np.array([_point(point, f"{path}, lane {i}") for point in lane])
        for i, lane in enumerate(lanes)
        if lane
    ]


def _point(value: object, place: str) -> tuple[float, float]:
    try:
        x, y = float(value["x"]), float(value["y"])
    except (TypeError, KeyError, ValueError, OverflowError):
        raise TrtLaneError(f"{place}: {str(value)[:60]!r}; expected a point's x and y") from None
    if not (abs(x) <= FARTHEST_PX and abs(y) <= FARTHEST_PX):
        raise TrtLaneError(f"{place}: {x}, {y} is no place in a frame; leave the point out")
    return x, y


def _lists(folder: Path) -> list[Path]:
    """Lists of the splits below a folder, or of the split that it is itself."""
    own = folder / f"{folder.resolve().name}.txt"
    if own.stem in SPLITS and own.is_file():
        return [own]
    return [file for s in SPLITS if (file := folder / s / f"{s}.txt").is_file()]
