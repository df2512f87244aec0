"""Results to look at: in a window, or recorded as a video."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.runtime.result import FrameResult

# A recording ends before the disk is full: other programs of the vehicle live on it, too.
RESERVE_BYTES = 256 << 20
_CHECK_EVERY = 25
_PROBE_S = 20
_KEYS_TO_END = frozenset({27, ord("q")})
# By container.
_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}
_WHITE, _RED, _BLACK = (255, 255, 255), (60, 60, 255), (0, 0, 0)


class Window:
    """A window per camera; q or Esc ends the run."""

    name = "window"

    def __init__(self) -> None:
        self.wants_end = False
        if not _a_window_opens():
            raise TrtLaneError("no window can be opened here (no display); use --record FILE")
        cv2.namedWindow("trt_lane 0", cv2.WINDOW_NORMAL)

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Show the frame."""
        if frame is not None and frame.ndim == 3:
            cv2.imshow(f"trt_lane {result.camera}", annotated(result, frame))
        self.wants_end |= (cv2.waitKey(1) & 0xFF) in _KEYS_TO_END

    def close(self) -> None:
        """Close the windows."""
        cv2.destroyAllWindows()


def _a_window_opens() -> bool:
    """Tried in a process of its own: without a display OpenCV's Qt aborts the one it is in."""
    probe = "import cv2; cv2.namedWindow('trt_lane'); cv2.waitKey(1); cv2.destroyAllWindows()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe], capture_output=True, check=False, timeout=_PROBE_S
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class Recorder:
    """One camera's frames with their lanes as a video, whole under its name when it is closed.

    Args:
        path: of the video (.mp4, .avi, .mkv).
        rate_hz: at which it will be played.
        camera: whose frames.
        free: free bytes of a folder.
    """

    wants_end = False

    def __init__(
        self,
        path: Path,
        rate_hz: float,
        camera: int = 0,
        free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self.name = f"recording {path}"
        self._path, self._rate_hz, self._camera, self._free = path, rate_hz, camera, free
        # OpenCV takes the container from the suffix, so the unfinished name keeps it.
        self._draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._video: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._frames = 0
        if path.suffix.lower() not in _CODECS:
            known = ", ".join(sorted(_CODECS))
            raise TrtLaneError(f"{path} is no name of a video; expected one of {known}")
        if path.is_dir():
            raise TrtLaneError(f"{path} is a folder; expected a video's name, such as {path}/1.mp4")
        if not path.parent.is_dir():
            raise TrtLaneError(f"no folder {path.parent} to record into")

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Write the frame; OpenCV does not say when it cannot, so the disk is looked at."""
        if frame is None or result.camera != self._camera or frame.ndim != 3:
            return
        if self._frames % _CHECK_EVERY == 0 and self._free(self._path.parent) < RESERVE_BYTES:
            raise TrtLaneError(
                f"less than {RESERVE_BYTES >> 20} MiB are free; the recording ends after "
                f"{self._frames} frames"
            )
        picture = annotated(result, frame)
        if self._video is None:
            self._open(picture)
        elif picture.shape[1::-1] != self._size:  # a video has one size
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._video.write(picture)
        self._frames += 1

    def close(self) -> None:
        """Finish the file."""
        if self._video is not None:
            self._video.release()
            self._video = None
            os.replace(self._draft, self._path)

    def _open(self, picture: np.ndarray) -> None:
        self._size = picture.shape[1::-1]
        codec = cv2.VideoWriter_fourcc(*_CODECS[self._path.suffix.lower()])
        self._video = cv2.VideoWriter(str(self._draft), codec, self._rate_hz, self._size)
        if not self._video.isOpened():
            self._video = None
            self._draft.unlink(missing_ok=True)
            raise TrtLaneError(f"OpenCV cannot write {self._path}; choose another folder or .avi")


def annotated(result: FrameResult, frame: np.ndarray) -> np.ndarray:
    """A copy of the frame with its lanes and its age; a result that is not valid draws none."""
    picture = result.lanes.draw(frame) if result.valid else frame.copy()
    text = f"#{result.sequence}  {result.latency_ms:.1f} ms"
    colour = _WHITE
    if not result.valid:
        text, colour = f"{text}  {result.fault.value.upper()}", _RED
    scale = frame.shape[1] / 1640
    origin = (round(16 * scale) + 2, round(34 * scale) + 8)
    for width, tint in ((4, _BLACK), (1, colour)):
        cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, max(0.4, 0.8 * scale), tint,
                    width, cv2.LINE_AA)  # fmt: skip
    return picture
