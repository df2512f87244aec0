"""Synthetic frames at a model's network size, rendered once into shards on disk.

A shard is two files of SHARD frames, each written whole or not at all, so an interrupted rendering
goes on with the first shard that is missing. The folder's name holds a digest of what the renderer
draws for a few probe frames: a renderer that draws otherwise fills another folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2
import numpy as np

from trt_lane.datasets.synthetic import Split, render
from trt_lane.errors import TrtLaneError
from trt_lane.files import atomic_write
from trt_lane.image import ImageSpec

SHARD = 128  # frames per shard: seconds of rendering are lost at most, files stay few
SLOTS = 4
OVERSAMPLING = 2  # rendered width over the network's: its resize then has grain to work on
MAX_POINTS = 64  # CULane's rows every 10 px of 590 make 60
TRAIN_SEED = 2025
VALIDATION_FIRST = 1_000_000  # validation frames follow here in the train split: never trained on


@dataclass(frozen=True)
class FrameRange:
    """`count` consecutive synthetic frames of one split.

    With `full_size` they are rendered as large as the model's camera frames are, which is what a
    car sees, at three times the work; else just large enough for the network.
    """

    split: Split
    first: int
    count: int
    full_size: bool = False
    seed: int = TRAIN_SEED


@dataclass(frozen=True, eq=False)
class FrameCache:
    """Rendered frames: `frames[i]` is uint8 (h, w, 3) BGR, `lanes[i]` float32 (S, P, 2)."""

    place: Path
    shards: tuple[tuple[np.ndarray, np.ndarray], ...]  # memory maps
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and lanes (frame pixels, by slot, NaN is no point) of one frame."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        pixels, lanes = self.shards[index // SHARD]
        return pixels[index % SHARD], lanes[index % SHARD]


def network_view(spec: ImageSpec, frames: FrameRange, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame `index` of the range as the network sees it, and its lanes.

    Rendered larger and brought down by ImageSpec itself, as a camera's frame is, for the same
    sharpness and grain.

    Returns:
        uint8 (h, w, 3) BGR; float32 (S, P, 2) in frame pixels by slot, NaN where there is no point.
    """
    frame_hw = spec.frame_hw if frames.full_size else _reduced_hw(spec)
    scene = render(frames.seed, frames.first + index, frames.split, frame_hw=frame_hw)
    to_spec = np.float32([spec.frame_hw[1] / frame_hw[1], spec.frame_hw[0] / frame_hw[0]])
    lanes = np.full((SLOTS, MAX_POINTS, 2), np.nan, np.float32)
    for slot, lane in zip(scene.lane_slots, scene.lanes, strict=True):
        lanes[slot, : len(lane)] = lane * to_spec
    return spec.resize(scene.frame), lanes


def _reduced_hw(spec: ImageSpec) -> tuple[int, int]:
    """A frame size near OVERSAMPLING that cuts the frame's top at a whole row, as the full size.

    A crop that rounds would move all lanes by part of a row against the camera's frames.
    """
    (height, width), steps = spec.frame_hw, math.gcd(*spec.frame_hw, spec.crop_top)
    step = min(max(round(OVERSAMPLING * spec.input_hw[1] / width * steps), 1), steps)
    return height * step // steps, width * step // steps


def prepare(
    folder: Path,
    spec: ImageSpec,
    frames: FrameRange,
    workers: int = 1,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> FrameCache:
    """Render what is missing of the range under `folder` and open it.

    Args:
        folder: root of the caches.
        spec: the model's geometry.
        frames: which frames.
        workers: rendering processes.
        on_shard: called with (shards that are there, all shards).
    """
    place = folder / cache_name(spec, frames)
    total = -(-frames.count // SHARD)
    missing = [i for i in range(total) if not _shard_files(place, i)[0].exists()]
    on_shard(total - len(missing), total)
    if missing:
        job = functools.partial(_render_shard, place, spec, frames)
        with _workers(min(workers, len(missing))) as run:
            for done, _ in enumerate(run(job, missing), total - len(missing) + 1):
                on_shard(done, total)
    shards = tuple(_open_shard(place, i) for i in range(total))
    return FrameCache(place, shards, frames.count)


def cache_name(spec: ImageSpec, frames: FrameRange) -> str:
    """Folder name: split, first frame, size, and a digest of geometry and the renderer's output."""
    sha = hashlib.sha256(json.dumps([spec.to_dict(), SHARD]).encode())
    for index in range(3):
        pixels, lanes = network_view(spec, frames, index)
        sha.update(pixels.tobytes() + lanes.tobytes())
    height, width = spec.input_hw
    return f"{frames.split.value}-from-{frames.first}-{height}x{width}-{sha.hexdigest()[:12]}"


def _render_shard(place: Path, spec: ImageSpec, frames: FrameRange, shard: int) -> None:
    views = [network_view(spec, frames, i) for i in range(shard * SHARD, (shard + 1) * SHARD)]
    pixels_file, lanes_file = _shard_files(place, shard)
    # The pixels come last: a shard counts as there when they are.
    for path, arrays in ((lanes_file, [v[1] for v in views]), (pixels_file, [v[0] for v in views])):
        with atomic_write(path) as file:
            np.save(file, np.stack(arrays))


def _shard_files(place: Path, shard: int) -> tuple[Path, Path]:
    return place / f"pixels_{shard:04d}.npy", place / f"lanes_{shard:04d}.npy"


def _open_shard(place: Path, shard: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        pixels, lanes = (np.load(path, mmap_mode="r") for path in _shard_files(place, shard))
    except (OSError, ValueError, EOFError) as error:
        raise TrtLaneError(f"damaged frame cache: {error}; delete {place} and run again") from None
    return pixels, lanes


@contextmanager
def _workers(count: int) -> Iterator[Callable]:
    """A `map` over `count` processes; over this one when that is enough."""
    if count <= 1:
        yield map
        return
    # spawn: a fork of a process whose libraries already run threads can hang.
    with ProcessPoolExecutor(count, get_context("spawn"), _start_worker) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # A killed parent cannot end its workers, and they would wait for work for ever.
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent_process().join()
    os._exit(1)
