"""What every data set offers, and reading the files that all of them are made of."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
# Below this a digest reads every byte (a copy elsewhere keeps its digest); above, sizes and times.
DIGEST_CONTENT_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Label:
    """What is known about one frame without looking at it.

    Attributes:
        name: path inside the data set with forward slashes, no leading one; unique.
        lanes: annotated lanes in the frame's own pixels; None when the frame is unlabelled.
        category: kind of scene, None when the data set has no categories.
        h_samples: rows at which TuSimple annotates and wants predictions; None elsewhere.
    """

    name: str
    lanes: LaneSet | None = None
    category: str | None = None
    h_samples: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample(Label):
    """One frame with its label; `frame` is BGR uint8 (H, W, 3), of whatever size the file has."""

    frame: np.ndarray


class Dataset(ABC):
    """A sequence of samples.

    Attributes:
        name: short, for reports.
        spec: what `open_dataset` takes to open it again.
        metric: its official score; None when nothing is labelled.
    """

    name: str
    spec: str
    metric: Metric | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def frame(self, index: int) -> np.ndarray:
        """Frame number `index` (0 <= index < len), BGR uint8 (H, W, 3)."""

    @abstractmethod
    def label(self, index: int) -> Label:
        """Name, lanes and category of frame number `index` (0 <= index < len)."""

    @abstractmethod
    def digest(self) -> str:
        """sha256 that changes when a frame, a label or their order does."""

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        frame = self.frame(index)
        return Sample(frame=frame, **vars(self.label(index)))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def labels(self) -> Iterator[Label]:
        """All labels in order."""
        return (self.label(index) for index in range(len(self)))


def read_text(path: Path) -> str:
    """A text file; a missing or binary one is a TrtLaneError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TrtLaneError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise TrtLaneError(f"{path} is not a text file; expected UTF-8 text") from None


def checked_name(name: str, source: str) -> str:
    """A relative name without leading slash; one that leaves the data set is a TrtLaneError."""
    relative = name.strip().lstrip("/")
    if not relative or ".." in relative.split("/"):
        raise TrtLaneError(f"{source} names the image {name!r}; expected a path in the data set")
    return relative


def files_digest(root: Path, names: Iterable[str], extra: str = "") -> str:
    """sha256 over named files below `root`, in order, and `extra`; missing ones count as such.

    Up to 64 MiB in all every byte is read; larger sets go by name, size and time of change.
    """
    sha = hashlib.sha256(extra.encode())
    found = []
    for name in names:
        try:
            found.append((name, (root / name).stat()))
        except OSError:
            found.append((name, None))
    by_content = sum(stat.st_size for _, stat in found if stat) <= DIGEST_CONTENT_BYTES
    for name, stat in found:
        if stat is None:
            fact = "missing"
        elif by_content:
            fact = sha256_file(root / name)
        else:
            fact = f"{stat.st_size} {stat.st_mtime_ns}"
        sha.update(f"{name}\0{fact}\n".encode())
    return sha.hexdigest()


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which frame 9 comes before frame 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]
