"""The frames of a video file, every one or every n-th."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from trt_lane.datasets.base import Dataset, Label, Sample, frames_digest
from trt_lane.errors import TrtLaneError

KIND = "video"
ARGUMENT = "FILE or FILE:STRIDE (every STRIDE-th frame)"
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts"}
)


class VideoFrames(Dataset):
    """Unlabelled frames in order of time.

    Iterating decodes the file once and ends where its frames end. Indexing decodes forward from
    the last frame asked for, so ascending indices are cheap: seeking in compressed video may land
    beside the frame.
    """

    metric = None

    def __init__(self, path: Path, stride: int = 1) -> None:
        if stride < 1:
            raise TrtLaneError(f"stride is {stride}; expected 1 or more")
        self.path = path
        self.stride = stride
        self.name = path.name
        self.spec = f"{KIND}:{path}" + (f":{stride}" if stride > 1 else "")
        capture = self._start()
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if frames < 1:  # streams without an index do not say
            frames = 1
            while capture.grab():
                frames += 1
        self._length = (frames + stride - 1) // stride
        self._capture: cv2.VideoCapture | None = None
        self._next_frame = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        capture, number = self._start(first_is_read=False), 0
        while capture.grab():
            if number % self.stride == 0:
                whole, frame = capture.retrieve()
                if not whole:
                    return
                yield Sample(frame=frame, name=self.label(number // self.stride).name)
            number += 1

    def frame(self, index: int) -> np.ndarray:
        """Decode up to the frame; a file that ends before it is a TrtLaneError."""
        wanted = index * self.stride
        if self._capture is None or wanted < self._next_frame:
            self._capture, self._next_frame = self._start(first_is_read=False), 0
        while self._next_frame <= wanted:
            if not self._capture.grab():
                last = self._next_frame
                self._capture = None
                raise TrtLaneError(
                    f"{self.path} ends after {last} frames, frame {wanted} was wanted; "
                    "the file is cut off or its index is wrong: copy or re-encode it"
                )
            self._next_frame += 1
        whole, frame = self._capture.retrieve()
        if not whole:
            raise TrtLaneError(f"{self.path}: frame {wanted} cannot be decoded; re-encode it")
        return frame

    def label(self, index: int) -> Label:
        """The name only: `<video>/<frame number>.jpg`, as if the frames lay in a folder."""
        return Label(f"{self.path.stem}/{index * self.stride:06d}.jpg")

    def digest(self) -> str:
        """Over the file and the stride."""
        return frames_digest(self.path.parent, [self.path.name], f"{KIND}\n{self.stride}")

    def _start(self, first_is_read: bool = True) -> cv2.VideoCapture:
        """The opened video; with its first frame read, which proves that it can be decoded."""
        if not self.path.is_file():
            raise TrtLaneError(f"no video file {self.path}")
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened() or (first_is_read and not capture.read()[0]):
            size = self.path.stat().st_size
            raise TrtLaneError(
                f"{self.path} ({size} bytes) is not a video that OpenCV can decode; "
                "convert it to H.264 in .mp4"
            )
        return capture


def open(argument: str) -> VideoFrames:
    """Open FILE or FILE:STRIDE."""
    stride = re.fullmatch(r"(.+):([0-9]+)", argument)
    if stride and not Path(argument).expanduser().exists():
        return VideoFrames(Path(stride[1]).expanduser(), int(stride[2]))
    return VideoFrames(Path(argument).expanduser())


def recognise(path: Path) -> int:
    """2 for a file with a video's suffix, else 0."""
    return 2 * (path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES)
