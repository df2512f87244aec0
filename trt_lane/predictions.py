"""Writing detected lanes: CULane's line files or one JSON, and pictures or a video beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

import cv2
import numpy as np

from trt_lane.datasets.base import Dataset
from trt_lane.datasets.culane_lines import lines_name, write_lines
from trt_lane.datasets.video import VideoFrames
from trt_lane.errors import TrtLaneError
from trt_lane.files import write_bytes, write_json
from trt_lane.lanes import LaneSet
from trt_lane.lanes_json import lanes_to_plain

SCHEMA = 1
_JPEG_QUALITY = 90


class Writer(Protocol):
    """Takes the lanes of one frame after the other."""

    def write(self, name: str, frame: np.ndarray, lanes: LaneSet) -> None:
        """Write one frame's lanes.

        Args:
            name: path of the frame inside its data set.
            frame: BGR uint8 (H, W, 3).
            lanes: in the frame's pixels.
        """
        ...


@contextmanager
def open_writer(folder: Path, kind: str, draw: bool, data: Dataset) -> Iterator[Writer]:
    """Open a writer for the frames of a data set.

    Args:
        folder: gets `<name>.lines.txt` per frame (kind "culane") or lanes.json (kind "json"), and
            with `draw` a picture per image or `<video>.lanes.mp4`.
        kind: "culane" or "json".
        draw: whether pictures are made.
        data: decides between pictures and a video.

    What is not finished when an error passes through is removed: lanes.json and the video appear
    only when whole, line files and pictures one by one.
    """
    with ExitStack() as stack:
        writers: list[Writer] = [
            _Lines(folder) if kind == "culane" else stack.enter_context(_json_lanes(folder))
        ]
        if draw and isinstance(data, VideoFrames):
            writers.append(stack.enter_context(_overlay_video(folder, data)))
        elif draw:
            writers.append(_Pictures(folder))
        yield _All(writers)


class _All:
    def __init__(self, writers: list[Writer]) -> None:
        self.writers = writers

    def write(self, name: str, frame: np.ndarray, lanes: LaneSet) -> None:
        for writer in self.writers:
            writer.write(name, frame, lanes)


class _Lines:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, frame: np.ndarray, lanes: LaneSet) -> None:
        # The official evaluator needs two points to draw a line.
        write_lines(self.folder / lines_name(name), (x for x in lanes.lanes() if len(x) > 1))


class _Pictures:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, frame: np.ndarray, lanes: LaneSet) -> None:
        drawn = lanes.draw(frame)
        lossless = PurePosixPath(name).suffix.lower() == ".png"
        suffix = ".lanes.png" if lossless else ".lanes.jpg"
        options = [] if lossless else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        _, data = cv2.imencode(suffix[-4:], drawn, options)
        write_bytes(
            self.folder / (str(PurePosixPath(name).with_suffix("")) + suffix), data.tobytes()
        )


class _Json:
    def __init__(self) -> None:
        self.frames: list[dict] = []

    def write(self, name: str, frame: np.ndarray, lanes: LaneSet) -> None:
        self.frames.append({"name": name, **lanes_to_plain(lanes)})


@contextmanager
def _json_lanes(folder: Path) -> Iterator[_Json]:
    writer = _Json()
    yield writer
    write_json(folder / "lanes.json", {"schema": SCHEMA, "frames": writer.frames})


class _Overlay:
    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self.video: cv2.VideoWriter | None = None

    def write(self, name: str, frame: np.ndarray, lanes: LaneSet) -> None:
        if self.video is None:
            height, width = frame.shape[:2]
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            self.video = cv2.VideoWriter(str(self.path), codec, self.fps, (width, height))
            if not self.video.isOpened():
                raise TrtLaneError(
                    f"OpenCV cannot write {self.path} ({width}x{height}); free space, choose "
                    "another folder, or use --no-draw"
                )
        self.video.write(lanes.draw(frame))

    def close(self) -> None:
        if self.video is not None:
            self.video.release()


@contextmanager
def _overlay_video(folder: Path, data: VideoFrames) -> Iterator[_Overlay]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrtLaneError(f"cannot write to {folder}: {error.strerror}") from None
    final = folder / f"{data.path.stem}.lanes.mp4"
    # OpenCV takes the container from the suffix, so the unfinished name keeps it.
    draft = folder / f".{final.stem}.{os.getpid()}.mp4"
    capture = cv2.VideoCapture(str(data.path))
    fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
    capture.release()
    overlay = _Overlay(draft, fps / data.stride)
    try:
        yield overlay
        overlay.close()
        if draft.is_file():
            draft.replace(final)
    finally:
        overlay.close()
        with suppress(OSError):
            draft.unlink()
