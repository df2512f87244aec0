"""The synthetic roads as a data set: the embedded default, which needs no download."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

import numpy as np

from trt_lane.datasets.base import Dataset, Label, Sample
from trt_lane.datasets.synthetic import FULL_HW, Split, ground_truth, render, sample
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric

KIND = "synthetic"
ARGUMENT = "[SPLIT][:COUNT][:seed=N][:WIDTHxHEIGHT], e.g. test:500 or calibration:64:820x295"
DEFAULT_COUNT = 500


class SyntheticRoads(Dataset):
    """The first `count` scenes of a split; the same arguments give the same frames anywhere.

    Args:
        split: no two splits share a scene.
        count: number of frames.
        seed: another seed is another data set.
        frame_hw: size to render at, of CULane's aspect ratio; scenes and lanes do not depend on it.
    """

    metric = Metric.CULANE
    name = "synthetic roads"

    def __init__(
        self,
        split: Split = Split.TEST,
        count: int = DEFAULT_COUNT,
        seed: int = 0,
        frame_hw: tuple[int, int] = FULL_HW,
    ) -> None:
        if count < 1:
            raise TrtLaneError(f"{KIND}: {count} frames; expected 1 or more")
        self.split, self.count, self.seed = Split(split), count, seed
        self.frame_hw = (int(frame_hw[0]), int(frame_hw[1]))
        self.spec = f"{KIND}:{self.split.value}:{count}"
        self.spec += f":seed={seed}" if seed else ""
        self.spec += "" if self.frame_hw == FULL_HW else f":{self.frame_hw[1]}x{self.frame_hw[0]}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        shot = render(self.seed, index, self.split, self.frame_hw)
        lanes = LaneSet.from_lanes(shot.lanes, self.frame_hw)
        return Sample(self._image_name(index), lanes, shot.category.value, frame=shot.frame)

    def frame(self, index: int) -> np.ndarray:
        """Render the frame."""
        return render(self.seed, index, self.split, self.frame_hw).frame

    def label(self, index: int) -> Label:
        """Ground truth and category, without rendering."""
        scene = sample(self.seed, index, self.split)
        lanes = LaneSet.from_lanes(ground_truth(scene)[0], FULL_HW).scaled_to(self.frame_hw)
        return Label(self._image_name(index), lanes, scene.category.value)

    def digest(self) -> str:
        """Over the arguments and the renderer's own source: a changed scene is changed data."""
        facts = (self.split.value, self.count, self.seed, self.frame_hw, _renderer_digest())
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _image_name(self, index: int) -> str:
        return f"{self.split.value}/{index:06d}.jpg"


def open(argument: str) -> SyntheticRoads:
    """Open by ARGUMENT; parts may be left out."""
    options: dict = {}
    for part in filter(None, argument.split(":")):
        if part in {split.value for split in Split}:
            option, value = "split", Split(part)
        elif part.isdecimal():
            option, value = "count", int(part)
        elif match := re.fullmatch(r"seed=([0-9]+)", part):
            option, value = "seed", int(match[1])
        elif match := re.fullmatch(r"([0-9]+)x([0-9]+)", part):
            option, value = "frame_hw", (int(match[2]), int(match[1]))
        else:
            splits = ", ".join(split.value for split in Split)
            raise TrtLaneError(f"{KIND}: {part!r} not understood; expected {ARGUMENT} ({splits})")
        if option in options:
            raise TrtLaneError(f"{KIND}:{argument} gives {option} twice; give it once")
        options[option] = value
    dataset = SyntheticRoads(**options)
    if "frame_hw" in options:
        try:
            dataset.frame(0)
        except ValueError as error:
            raise TrtLaneError(f"{KIND}:{argument}: {error}") from None
    return dataset


def recognise(path: Path) -> int:
    """0: no path is synthetic."""
    return 0


@cache
def _renderer_digest() -> str:
    folder = Path(__file__).parent
    sources = [folder / "synthetic.py", *sorted(folder.glob("_[!_]*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
