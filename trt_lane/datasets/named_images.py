"""NamedImages: a data set of image files below one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trt_lane.datasets.base import Dataset
from trt_lane.datasets.image_file import read_frame


class NamedImages(Dataset):
    """Frames are image files; what is known about them is left to the kind of data set.

    Args:
        name: of the data set, for reports.
        spec: what `open_dataset` takes.
        root: folder that the names are relative to.
        image_names: in order, with forward slashes.
    """

    def __init__(self, name: str, spec: str, root: Path, image_names: Sequence[str]) -> None:
        self.name, self.spec, self.root = name, spec, root
        self.image_names = list(image_names)
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.image_names)

    def frame(self, index: int) -> np.ndarray:
        """Decode the image."""
        frame = read_frame(self.root / self.image_names[index])
        self._sizes[index] = frame.shape[:2]
        return frame

    def frame_hw(self, index: int) -> tuple[int, int]:
        """Height and width of a frame; decodes the image if nothing has before."""
        if index not in self._sizes:
            self.frame(index)
        return self._sizes[index]
