"""One image file to pixels; what is damaged is refused, never filled with grey."""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np

from trt_lane.errors import TrtLaneError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# A marker other than a restart or a stuffed zero: what ends a scan (ITU T.81, B.1.1.5).
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # markers without a length behind them
# What libjpeg and libpng complain of when pixels are lost; colour profiles and the like pass.
_COMPLAINT = re.compile(
    r"Corrupt JPEG data: (?!bad ICC)[^\n]*|Premature end of JPEG file"
    r"|Inconsistent progression[^\n]*|libpng error: [^\n]*"
)
_one_at_a_time = threading.Lock()


def read_frame(path: Path) -> np.ndarray:
    """Decode an image file to BGR uint8 (H, W, 3); a missing or damaged one is a TrtLaneError.

    A JPEG has no checksum: a flipped bit that leaves as many pixels as before is not noticed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrtLaneError(f"cannot read image {path}: {error.strerror or error}") from None
    if damage := _damage(data):
        raise TrtLaneError(_refusal(path, damage, data))
    frame = None
    with _complaints() as told, suppress(cv2.error):  # a header of billions of pixels
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if told:
        raise TrtLaneError(_refusal(path, told[0], data))
    if frame is None:
        raise TrtLaneError(
            f"{path} is not an image ({len(data)} bytes starting {data[:8]!r}); "
            "replace it or take it out of the data set"
        )
    return frame


def _refusal(path: Path, damage: str, data: bytes) -> str:
    return (
        f"{path} is a damaged image ({damage}; {len(data)} bytes); copy it again or take it out "
        "of the data set"
    )


def _damage(data: bytes) -> str:
    """What the file's own structure says is lost; "" when it is whole or of another kind."""
    if data.startswith(_JPEG):
        return "" if _reaches_its_end(data) else "a JPEG without its end marker: cut off"
    return _png_damage(data) if data.startswith(_PNG) else ""


def _reaches_its_end(data: bytes) -> bool:
    """Whether a JPEG's segments and scans lead to the end-of-image marker.

    Thumbnails in a header have end markers of their own, and cameras write more behind the last.
    """
    at = len(_JPEG)
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at : at + 1] == b"\xff":  # any number may stand before a marker
            at += 1
        if at >= len(data):
            return False
        marker = data[at]
        at += 1
        if marker == _END_OF_IMAGE:
            return True
        if marker in _ALONE:
            continue
        at += max(int.from_bytes(data[at : at + 2], "big"), 2)
        if marker == _START_OF_SCAN:
            found = _SCAN_END.search(data, at)
            if found is None:
                return False
            at = found.start()
    return False


def _png_damage(data: bytes) -> str:
    at = len(_PNG)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body, checksum = data[at + 4 : at + 8 + size], data[at + 8 + size : at + 12 + size]
        if zlib.crc32(body).to_bytes(4, "big") != checksum:
            return "a PNG part with a wrong checksum"
        if body[:4] == b"IEND":
            return ""
        at += 12 + size
    return "a PNG without its end: cut off"


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What the codecs print about lost pixels while the block runs; filled when it ends.

    They decode on and only write to the process's stderr, so that is read meanwhile. Whatever else
    is written there, by other threads say, goes where it belongs afterwards.
    """
    told: list[str] = []
    with _one_at_a_time:
        try:
            stderr = os.dup(2)
        except OSError:  # a program without stderr
            yield told
            return
        source, target = os.pipe()
        os.set_blocking(source, False)
        os.set_blocking(target, False)  # a full pipe must not stop a thread that logs
        os.dup2(target, 2)
        os.close(target)
        try:
            yield told
        finally:
            os.dup2(stderr, 2)
            written = b""
            with suppress(BlockingIOError):
                while part := os.read(source, 1 << 16):
                    written += part
            told += _COMPLAINT.findall(written.decode(errors="replace"))
            rest = _COMPLAINT.sub("", written.decode(errors="replace")).strip()
            if rest:
                os.write(stderr, f"{rest}\n".encode())
            os.close(source)
            os.close(stderr)
