"""Results in shared memory: the newest one per camera, for any process of this machine.

One record per camera, in a file of /dev/shm that others can map (little-endian, packed):

    magic 8s  version u32  capacity u32  turn u64  crc32 u32  camera u32  sequence u64
    captured_ns u64  finished_ns u64  max_age_ms f64  fault u32  height u32  width u32  lanes u32
    lengths u32[LANES]  scores f32[LANES]  points f32[LANES][POINTS][2]

`turn` is odd while the writer is at work and grows by two with every result. The checksum covers
all behind itself: a reader that overlaps with the writer sees that it does, and reads again.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.runtime.result import Fault, FrameResult

FOLDER = Path("/dev/shm")
LANES, POINTS = 16, 512
_HEAD, _BODY = struct.Struct("<8sIIQI"), struct.Struct("<IQQQdIIII")
_MAGIC, _VERSION = b"TRTLANE\0", 1
_ARRAYS = LANES * 4 + LANES * 4 + LANES * POINTS * 8
RECORD_BYTES = _HEAD.size + _BODY.size + _ARRAYS
_FAULTS = tuple(Fault)
# A record is written in well under a millisecond.
_TRIES, _PAUSE_S = 50, 0.0005


class SharedMemory:
    """Writes the newest result of every camera.

    Args:
        name: of the file in `folder`.
        cameras: how many records.
        folder: a file system in memory.
    """

    wants_end = False

    def __init__(self, name: str, cameras: int, folder: Path = FOLDER) -> None:
        self._path = _path(name, folder)
        self.name = f"shared memory {self._path}"
        self._turns = [0] * cameras
        size = RECORD_BYTES * cameras
        try:
            # Made anew: a reader of the last run keeps the old file, which grows stale.
            self._path.unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            handle = os.open(self._path, flags, 0o600)
            try:
                self._file = os.fstat(handle).st_ino
                os.ftruncate(handle, size)
                self._memory = mmap.mmap(handle, size)
            finally:
                os.close(handle)
        except OSError as error:
            raise TrtLaneError(f"cannot make {self._path}: {error.strerror}") from None

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Replace the camera's record; lanes beyond LANES are left out, points thinned."""
        body = _packed(result)
        start = result.camera * RECORD_BYTES
        turn = self._turns[result.camera] = self._turns[result.camera] + 2
        crc = zlib.crc32(body)
        self._memory[start : start + _HEAD.size] = _HEAD.pack(
            _MAGIC, _VERSION, POINTS, turn - 1, crc
        )
        self._memory[start + _HEAD.size : start + RECORD_BYTES] = body
        self._memory[start : start + _HEAD.size] = _HEAD.pack(_MAGIC, _VERSION, POINTS, turn, crc)

    def close(self) -> None:
        """Leave; the file goes, so that nobody opens the last result of a run that has ended."""
        self._memory.close()
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._file:  # else it is another run's by now
                self._path.unlink()


class SharedMemoryReader:
    """Reads what another process writes; a context manager.

    Args:
        name: of the writer's file.
        folder: where it is.

    Raises:
        TrtLaneError: there is none, or none of this version.
    """

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        path = _path(name, folder)
        try:
            with open(path, "rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise TrtLaneError(f"no results at {path} ({error}); is `trt-lane run` up?") from None
        if len(self._memory) % RECORD_BYTES:
            raise TrtLaneError(f"{path} has {len(self._memory)} bytes; of another version?")

    @property
    def cameras(self) -> int:
        """How many cameras the writer has."""
        return len(self._memory) // RECORD_BYTES

    def read(self, camera: int = 0) -> FrameResult | None:
        """The newest result as it is now: without its lanes when it is too old.

        None before the first one, or when no whole record was to be had.

        Raises:
            TrtLaneError: the writer has no such camera, or is of another version.
        """
        if not 0 <= camera < self.cameras:
            raise TrtLaneError(f"no camera {camera}; expected one from 0 to {self.cameras - 1}")
        start = camera * RECORD_BYTES
        for _ in range(_TRIES):
            record = self._memory[start : start + RECORD_BYTES]
            magic, version, _, turn, crc = _HEAD.unpack_from(record)
            if magic != _MAGIC:
                return None
            if version != _VERSION:
                raise TrtLaneError(f"results have version {version}, this reads {_VERSION}")
            body = record[_HEAD.size :]
            if turn % 2 == 0 and zlib.crc32(body) == crc:
                return _unpacked(body).at()
            time.sleep(_PAUSE_S)
        return None

    def close(self) -> None:
        """Leave."""
        self._memory.close()

    def __enter__(self) -> SharedMemoryReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _packed(result: FrameResult) -> bytes:
    lengths = np.zeros(LANES, np.uint32)
    scores = np.zeros(LANES, np.float32)
    points = np.full((LANES, POINTS, 2), np.nan, np.float32)
    lanes = result.lanes.lanes()[:LANES]
    for i, lane in enumerate(lanes):
        if len(lane) > POINTS:
            lane = lane[np.linspace(0, len(lane) - 1, POINTS).round().astype(int)]
        lengths[i], scores[i] = len(lane), result.lanes.scores[i]
        points[i, : len(lane)] = lane
    height, width = result.lanes.frame_hw
    sequence = max(result.sequence, 0)
    body = _BODY.pack(
        result.camera, sequence, result.captured_ns, result.finished_ns, result.max_age_ms,
        _FAULTS.index(result.fault), height, width, len(lanes),
    )  # fmt: skip
    return body + lengths.tobytes() + scores.tobytes() + points.tobytes()


def _unpacked(body: bytes) -> FrameResult:
    camera, sequence, captured, finished, max_age, fault, height, width, count = _BODY.unpack_from(
        body
    )
    arrays = body[_BODY.size :]
    lengths = np.frombuffer(arrays, np.uint32, LANES)
    scores = np.frombuffer(arrays, np.float32, LANES, 4 * LANES)
    points = np.frombuffer(arrays, np.float32, LANES * POINTS * 2, 8 * LANES)
    points = points.reshape(LANES, POINTS, 2)
    lanes = [points[i, : lengths[i]].copy() for i in range(count)]
    found = LaneSet.from_lanes(lanes, (height, width), list(scores[:count]))
    return FrameResult(camera, sequence, captured, finished, found, _FAULTS[fault], max_age)


def _path(name: str, folder: Path) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}", name):
        raise TrtLaneError(f"{name!r} is no name for shared memory; expected letters and digits")
    return folder / f"trt_lane.{name}"
