"""Sources: where frames come from, by OpenCV: cameras, network streams, video files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from trt_lane.errors import TrtLaneError

_STREAM = re.compile(r"(rtsps?|https?|udp|tcp)://.+", re.IGNORECASE)
# A stream that is silent for so long counts as lost; FFmpeg's own limit is half a minute.
TIMEOUT_MS = 3000
# A decoder of several threads holds back a frame for each but the first: with twelve cores half a
# second at 25 Hz, of which no clock of ours would know, and memory for a dozen frames.
_ONE_THREAD = (cv2.CAP_PROP_N_THREADS, 1)
_TIMEOUTS = (
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS),
)
# NVIDIA's camera stack on Jetson; the number is all that a user may choose.
_CSI = (
    "nvarguscamerasrc sensor-id={} ! video/x-raw(memory:NVMM),format=NV12 ! nvvidconv ! "
    "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
    "appsink drop=true max-buffers=1 sync=false"
)


class Source(Protocol):
    """An opened camera or file."""

    def read(self) -> np.ndarray | None:
        """The next frame, BGR uint8 (H, W, 3), or None when there is none (any more)."""
        ...

    def close(self) -> None:
        """Give the device back."""
        ...


@dataclass(frozen=True)
class SourceSpec:
    """How to open a source, as often as it takes.

    Attributes:
        name: for people and logs; no password of a stream is in it.
        live: whether frames come by themselves; a file's wait.
        open: opens it; None when there is nothing to open now.
        rate_hz: of a file's own frames, 0 when unknown or live.
    """

    name: str
    live: bool
    open: Callable[[], Source | None]
    rate_hz: float = 0.0


def camera(text: str) -> SourceSpec:
    """A camera: 0 or /dev/video0, csi:0 (Jetson), rtsp://… or another stream.

    Raises:
        TrtLaneError: it is none of these.
    """
    device = re.fullmatch(r"(?:/dev/video)?([0-9]{1,3})", text)
    if device:
        number = int(device[1])
        return SourceSpec(f"/dev/video{number}", True, lambda: _opened(number))
    csi = re.fullmatch(r"csi:([0-9]{1,2})", text)
    if csi:
        pipeline = _CSI.format(int(csi[1]))
        return SourceSpec(text, True, lambda: _opened(pipeline, cv2.CAP_GSTREAMER))
    if _STREAM.fullmatch(text):
        return SourceSpec(_shown(text), True, lambda: _opened_stream(text))
    if text and Path(text).is_file():
        raise TrtLaneError(f"{text} is a file; for a video say --video {text}")
    raise TrtLaneError(
        f"no camera {_shown(text)!r}; expected a number, /dev/video0, csi:0 or rtsp://host/path"
    )


def _shown(text: str) -> str:
    """An address as far as its host: before it and behind it there may be passwords."""
    scheme, found, rest = text.partition("://")
    if not found:
        return text
    return f"{scheme}://{re.split('[/?#]', rest.rpartition('@')[2])[0]}"


def video(path: Path) -> SourceSpec:
    """A video file, which must be readable now.

    Raises:
        TrtLaneError: there is none, or OpenCV cannot decode it.
    """
    if not path.is_file():
        raise TrtLaneError(f"no video file {path}")
    capture = _opened_file(path)
    if capture is None or not capture.peek():
        raise TrtLaneError(
            f"{path} ({path.stat().st_size} bytes) is not a video that OpenCV can decode; "
            "convert it to H.264 in .mp4"
        )
    # It stays open for whoever opens it first: to begin anew takes 20 ms and 4 MB.
    held = [capture]
    rate_hz = capture.rate_hz()
    return SourceSpec(str(path), False, lambda: held.pop() if held else _opened_file(path), rate_hz)


class _Capture:
    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._peeked: np.ndarray | None = None

    def peek(self) -> bool:
        """Whether there is a frame; `read` gives it."""
        self._peeked = self.read()
        return self._peeked is not None

    def read(self) -> np.ndarray | None:
        if self._peeked is not None:
            frame, self._peeked = self._peeked, None
            return frame
        whole, frame = self._capture.read()
        return frame if whole else None

    def rate_hz(self) -> float:
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        return rate if 0 < rate < 1000 else 0.0

    def close(self) -> None:
        self._capture.release()


def _opened_stream(address: str) -> _Capture | None:
    return _opened(address, cv2.CAP_FFMPEG, (*_ONE_THREAD, *_TIMEOUTS))


def _opened_file(path: Path) -> _Capture | None:
    """By FFmpeg, else by whatever reads it here: that knows nothing of threads."""
    return _opened(str(path), cv2.CAP_FFMPEG, _ONE_THREAD) or _opened(str(path))


def _opened(
    what: int | str, api: int = cv2.CAP_ANY, options: Sequence[int] = ()
) -> _Capture | None:
    capture = cv2.VideoCapture(what, api, options) if options else cv2.VideoCapture(what, api)
    if not capture.isOpened():
        capture.release()
        return None
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # V4L2 hands out old frames otherwise
    return _Capture(capture)
