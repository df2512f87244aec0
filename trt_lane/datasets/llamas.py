"""LLAMAS' layout: color_images/ and labels/, each with a folder per split and drive."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from trt_lane.datasets.base import Label, files_digest, frames_digest, natural_order
from trt_lane.datasets.llamas_json import FRAME_HW, lanes_of, read_columns
from trt_lane.datasets.named_images import NamedImages
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric

KIND = "llamas"
ARGUMENT = "DIR with color_images/valid and labels/valid, or another split, as DIR/labels/train"
SPLITS = ("valid", "train", "test")
IMAGES, LABELS = "color_images", "labels"
IMAGE_SUFFIX, LABEL_SUFFIX = "_color_rect.png", ".json"


class LlamasDataset(NamedImages):
    """Images of one split in natural order; those without a label file are unlabelled.

    Layout as clrnet/datasets/llamas.py of Turoad/CLRNet and LaneATT's reader have it. The test
    split has no public labels. A label without its image is a frame that cannot be read.

    Args:
        root: folder with color_images/ and labels/.
        split: "train", "valid" or "test".
    """

    def __init__(self, root: Path, split: str) -> None:
        images = _names(root, IMAGES, split, IMAGE_SUFFIX)
        labels = _names(root, LABELS, split, LABEL_SUFFIX)
        self._label_of = {_image_name(name): name for name in labels}
        names = sorted({*images, *self._label_of}, key=natural_order)
        super().__init__("LLAMAS", f"{KIND}:{root / LABELS / split}", root, names)
        if not self.image_names:
            raise TrtLaneError(
                f"{root} holds no {IMAGES}/{split}/*/*{IMAGE_SUFFIX} and no "
                f"{LABELS}/{split}/*/*{LABEL_SUFFIX}; expected {ARGUMENT}"
            )
        self.metric = Metric.LLAMAS if labels else None

    def frame(self, index: int) -> np.ndarray:
        """Decode the image; a labelled one of another size than 1276x717 is an error."""
        name = self.image_names[index]
        frame = super().frame(index)
        if name in self._label_of and frame.shape[:2] != FRAME_HW:
            height, width = frame.shape[:2]
            raise TrtLaneError(
                f"{self.root / name} is {width}x{height}; LLAMAS' labels are for "
                f"{FRAME_HW[1]}x{FRAME_HW[0]}: give the images as they were downloaded"
            )
        return frame

    def label(self, index: int) -> Label:
        """Lanes l1, l0, r0, r1 with a point at every row, without decoding the image."""
        name = self.image_names[index]
        if name not in self._label_of:
            return Label(name)
        lanes = lanes_of(read_columns(self.root / self._label_of[name]))
        arrays = [_below_the_next_pixel(lane[::-1]) for lane in lanes]
        return Label(name, LaneSet.from_lanes(arrays, FRAME_HW))

    def digest(self) -> str:
        """Over images and label files."""
        found = [self._label_of.get(name, "") for name in self.image_names]
        labels = files_digest(self.root, filter(None, found), "\n".join(found))
        return frames_digest(self.root, self.image_names, f"{KIND}\n{labels}")


def open(argument: str) -> LlamasDataset:
    """Open DIR (its valid split, else its only one) or one split's folder of labels or images."""
    path = Path(argument).expanduser()
    if path.parent.name in (IMAGES, LABELS):
        root, split = path.parents[1], path.name
        if not any((root / kind / split).is_dir() for kind in (IMAGES, LABELS)):
            raise TrtLaneError(f"no folder {path}; expected {ARGUMENT}")
        return LlamasDataset(root, split)
    if not path.is_dir():
        raise TrtLaneError(f"no folder {path}; expected {ARGUMENT}")
    splits = [s for s in SPLITS if any((path / k / s).is_dir() for k in (IMAGES, LABELS))]
    if SPLITS[0] not in splits and len(splits) != 1:
        found = ", ".join(f"{LABELS}/{s}" for s in splits) or f"no {IMAGES}/valid"
        raise TrtLaneError(f"{path} has {found}; expected {ARGUMENT}")
    return LlamasDataset(path, splits[0])


def recognise(path: Path) -> int:
    """2 for a folder with color_images/, or a split's folder of images or labels; else 0."""
    if path.parent.name in (IMAGES, LABELS) and path.is_dir():
        path = path.parents[1]
    return 2 * (path / IMAGES).is_dir()


def prediction_name(image_name: str) -> str:
    """The name under which the official evaluator looks for an image's prediction: drive/frame."""
    path = PurePosixPath(image_name)
    return f"{path.parent.name}/{path.name.removesuffix(IMAGE_SUFFIX)}.png"


def _names(root: Path, kind: str, split: str, suffix: str) -> list[str]:
    found = (root / kind / split).rglob(f"*{suffix}")
    return [file.relative_to(root).as_posix() for file in found if file.is_file()]


def _image_name(label: str) -> str:
    return IMAGES + label.removeprefix(LABELS).removesuffix(LABEL_SUFFIX) + IMAGE_SUFFIX


def _below_the_next_pixel(lane: np.ndarray) -> np.ndarray:
    """A lane in float32 whose columns lie in the same whole pixels.

    The scorer cuts fractions off; rounding to float32 must not carry 639.9999999 to 640.
    """
    rounded = lane.astype(np.float32)
    carried = np.trunc(rounded) > np.trunc(lane)
    return np.where(carried, np.nextafter(rounded, np.float32(0)), rounded)
