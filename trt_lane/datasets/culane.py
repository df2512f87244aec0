"""CULane's layout: list/*.txt, images, and a `.lines.txt` beside each labelled one."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import numpy as np

from trt_lane.datasets.culane_lines import lines_name, read_lines
from trt_lane.datasets.image_list import ImageListDataset, read_list
from trt_lane.errors import TrtLaneError
from trt_lane.model import Metric

KIND = "culane"
ARGUMENT = "DIR with list/test.txt, or a list file in DIR/list"


class CulaneDataset(ImageListDataset):
    """Images of one list file, with categories from list/test_split where that is.

    Args:
        root: folder that the names of the list are relative to.
        list_file: a name per line.
    """

    def __init__(self, root: Path, list_file: Path) -> None:
        super().__init__("CULane", KIND, Metric.CULANE, root, list_file)

    def lane_file(self, image_name: str) -> str:
        """x.jpg has x.lines.txt."""
        return lines_name(image_name)

    def lanes_in(self, path: Path) -> list[np.ndarray]:
        """The lanes of a .lines.txt."""
        return read_lines(path)

    def category(self, image_name: str) -> str | None:
        """Kind of scene, from list/test_split; None for an image that no list of it names."""
        return self.categories.get(image_name)

    @cached_property
    def categories(self) -> dict[str, str]:
        """Category by image name, from list/test_split; empty when there is none."""
        return read_categories(self.root / "list" / "test_split")


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


def read_categories(folder: Path) -> dict[str, str]:
    """Category by image name from a folder of lists such as test4_noline.txt."""
    return {
        name: re.sub(r"^test[0-9]+_", "", path.stem)
        for path in sorted(folder.glob("*.txt"))
        for name in read_list(path)
    }
