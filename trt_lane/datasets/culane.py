"""CULane's layout: list/*.txt, images, and a `.lines.txt` beside each labelled one."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import numpy as np

from trt_lane.datasets.base import Dataset, Label, checked_name, files_digest, read_text
from trt_lane.datasets.culane_lines import lines_name, read_lines
from trt_lane.datasets.image_file import read_frame
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric

KIND = "culane"
ARGUMENT = "DIR with list/test.txt, or a list file in DIR/list"


class CulaneDataset(Dataset):
    """Images of one list file; those without a lane file are unlabelled.

    Args:
        root: folder that the names of the list are relative to.
        list_file: a name per line; further columns are ignored (UFLD's train_gt.txt has them).
    """

    def __init__(self, root: Path, list_file: Path) -> None:
        self.root = root
        self.name = "CULane"
        self.spec = f"{KIND}:{list_file}"
        self.image_names = read_list(list_file)
        if not self.image_names:
            raise TrtLaneError(f"{list_file} names no image; expected one per line")
        self._sizes: dict[int, tuple[int, int]] = {}
        labelled = any(self._lines_path(i).is_file() for i in range(len(self)))
        self.metric = Metric.CULANE if labelled else None

    def __len__(self) -> int:
        return len(self.image_names)

    def frame(self, index: int) -> np.ndarray:
        """Decode the image."""
        frame = read_frame(self.root / self.image_names[index])
        self._sizes[index] = frame.shape[:2]
        return frame

    def label(self, index: int) -> Label:
        """Read the lane file; decodes the image once if its size is not known yet."""
        name, path = self.image_names[index], self._lines_path(index)
        lanes = None
        if path.is_file():
            arrays = [bottom_first(lane) for lane in read_lines(path)]
            if index not in self._sizes:
                self.frame(index)
            lanes = LaneSet.from_lanes(arrays, self._sizes[index])
        return Label(name, lanes, self.categories.get(name))

    @cached_property
    def categories(self) -> dict[str, str]:
        """Category by image name, from list/test_split; empty when there is none."""
        return read_categories(self.root / "list" / "test_split")

    def digest(self) -> str:
        """Over the list, categories, images and lane files."""
        categories = [self.categories.get(name, "") for name in self.image_names]
        lines = [lines_name(name) for name in self.image_names]
        # Label files by themselves: they are small, so that their content always counts.
        labels = files_digest(self.root, lines)
        return files_digest(self.root, self.image_names, f"{KIND}\n{labels}\n{categories}")

    def _lines_path(self, index: int) -> Path:
        return self.root / lines_name(self.image_names[index])


def open(argument: str) -> CulaneDataset:
    """Open DIR (its list/test.txt, else its only list file) or one list file in DIR/list."""
    path = Path(argument).expanduser()
    if path.is_file():
        root = path.parent.parent if path.parent.name == "list" else path.parent
        return CulaneDataset(root, path)
    if not path.is_dir():
        raise TrtLaneError(f"no folder {path}; expected {ARGUMENT}")
    lists = sorted((path / "list").glob("*.txt"))
    preferred = [file for file in lists if file.name == "test.txt"] or lists
    if len(preferred) != 1:
        found = ", ".join(file.name for file in lists) or "no list/*.txt"
        raise TrtLaneError(
            f"{path} has {found}; expected list/test.txt, or name one: {KIND}:{path}/list/NAME.txt"
        )
    return CulaneDataset(path, preferred[0])


def recognise(path: Path) -> int:
    """2 for a folder with list/*.txt or a list file in such a folder, else 0."""
    if path.is_file():
        return 2 * (path.suffix == ".txt" and path.parent.name == "list")
    return 2 * any((path / "list").glob("*.txt"))


def read_list(path: Path) -> list[str]:
    """Image names of a list file, without leading slash; a name that comes twice is an error."""
    names, seen = [], set()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        name = checked_name(words[0], f"{path}, line {number}")
        if name in seen:
            raise TrtLaneError(f"{path}, line {number}: {name} is listed twice; remove one")
        seen.add(name)
        names.append(name)
    return names


def read_categories(folder: Path) -> dict[str, str]:
    """Category by image name from a folder of lists such as test4_noline.txt."""
    return {
        name: re.sub(r"^test[0-9]+_", "", path.stem)
        for path in sorted(folder.glob("*.txt"))
        for name in read_list(path)
    }


def bottom_first(lane: np.ndarray) -> np.ndarray:
    """A lane (P, 2) with its points from the bottom of the frame upwards, as LaneSet holds them."""
    return lane[::-1] if len(lane) > 1 and lane[0, 1] < lane[-1, 1] else lane
