"""ImageListDataset: images that a list file names, each with a lane file beside or near it."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np

from trt_lane.datasets.base import (
    Label,
    checked_name,
    files_digest,
    frames_digest,
    read_text,
)
from trt_lane.datasets.named_images import NamedImages
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric


class ImageListDataset(NamedImages):
    """Images of one list file; those without a lane file are unlabelled.

    Frames may be of different sizes; lanes are in their own frame's pixels.

    Args:
        name: of the data set.
        kind: what its spec begins with.
        metric: its official score.
        root: folder that the names of the list are relative to.
        list_file: a name per line; further columns are ignored (UFLD's train_gt.txt has them).
    """

    def __init__(self, name: str, kind: str, metric: Metric, root: Path, list_file: Path) -> None:
        super().__init__(name, f"{kind}:{list_file}", root, read_list(list_file))
        self._kind = kind
        if not self.image_names:
            raise TrtLaneError(f"{list_file} names no image; expected one per line")
        labelled = any((root / self.lane_file(name)).is_file() for name in self.image_names)
        self.metric = metric if labelled else None

    @abstractmethod
    def lane_file(self, image_name: str) -> str:
        """Name of an image's lane file below the root, whether there is one or not."""

    @abstractmethod
    def lanes_in(self, path: Path) -> list[np.ndarray]:
        """The lanes of a lane file, each (P, 2), in either direction."""

    def category(self, image_name: str) -> str | None:
        """Kind of scene, None when the data set has no categories."""
        return None

    def label(self, index: int) -> Label:
        """Read the lane file; decodes the image once if its size is not known yet."""
        name = self.image_names[index]
        path = self.root / self.lane_file(name)
        lanes = None
        if path.is_file():
            arrays = [bottom_first(lane) for lane in self.lanes_in(path)]
            lanes = LaneSet.from_lanes(arrays, self.frame_hw(index))
        return Label(name, lanes, self.category(name))

    def digest(self) -> str:
        """Over the list, categories, images and lane files."""
        labels = files_digest(self.root, map(self.lane_file, self.image_names))
        categories = [self.category(name) or "" for name in self.image_names]
        return frames_digest(self.root, self.image_names, f"{self._kind}\n{labels}\n{categories}")


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


def bottom_first(lane: np.ndarray) -> np.ndarray:
    """A lane (P, 2) with its points from the bottom of the frame upwards, as LaneSet holds them."""
    return lane[::-1] if len(lane) > 1 and lane[0, 1] < lane[-1, 1] else lane
