"""What every data set offers, and reading the files that all of them are made of."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.lanes import LaneSet
from trt_lane.model import Metric

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
# Frames of a data set up to this size are digested byte by byte, of larger ones blocks are: reading
# all of CULane's test frames would take as long as many a benchmark.
WHOLE_BYTES = 64 << 20
BLOCK_BYTES = 4 << 10
# First, middle and last, and in a long file one more per MiB.
BLOCKS, MOST_BLOCKS = 3, 256


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
        """sha256 that changes when a frame, a label or their order does, and with nothing else.

        What it sees of many frames, and what it cannot: `frames_digest`.
        """

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
    """sha256 over named files below `root`, wholly and in order, and `extra`; for labels.

    Neither file times nor the place of `root` count; a file that cannot be read counts as such.
    """
    return _digest(root, names, extra, sha256_file)


def frames_digest(root: Path, names: Iterable[str], extra: str = "") -> str:
    """sha256 over named images or a video below `root`, in order, and `extra`.

    Up to 64 MiB in all it is `files_digest`. Of larger sets it sees every name and size and of each
    file blocks of 4 KiB at fixed places: first, middle, last and one more per MiB, 256 at most. A
    copy keeps its digest, whatever its file times and place; an image that was added, left out,
    renamed, cut off, encoded anew or exchanged for another changes it. What it cannot tell: bytes
    that changed between those blocks while the size stayed, as a damaged disk or an edit in place
    of an uncompressed image may leave them.
    """
    names = list(names)
    total = 0
    for name in names:
        with suppress(OSError):
            total += (root / name).stat().st_size
    return _digest(root, names, extra, sha256_file if total <= WHOLE_BYTES else _sampled)


def _digest(root: Path, names: Iterable[str], extra: str, fact: Callable[[Path], str]) -> str:
    sha = hashlib.sha256(extra.encode())
    for name in names:
        try:
            found = fact(root / name)
        except OSError:
            found = "missing"
        sha.update(f"{name}\0{found}\n".encode())
    return sha.hexdigest()


def _sampled(path: Path) -> str:
    """Size of a file and sha256 of its blocks."""
    sha = hashlib.sha256()
    # Unbuffered: a buffer would read more than the block.
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        blocks = min(BLOCKS + (size >> 20), MOST_BLOCKS)
        for i in range(blocks):
            file.seek(i * max(size - BLOCK_BYTES, 0) // (blocks - 1))
            sha.update(file.read(BLOCK_BYTES))
    return f"{size} {sha.hexdigest()}"


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which frame 9 comes before frame 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]
