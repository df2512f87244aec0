"""The CULane scorer against plain ways of doing the same: equal counts first, then seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from trt_lane.datasets.culane_lines import lines_name, read_lines
from trt_lane.datasets.image_list import read_list
from trt_lane.errors import TrtLaneError
from trt_lane.metrics.assignment import match_heaviest
from trt_lane.metrics.culane import MATCH_TOLERANCE, score_image
from trt_lane.metrics.culane_spline import spline_points
from trt_lane.metrics.culane_strip import FRAME_HW, WIDTH_PX, draw_strip

THRESHOLDS = (0.5, 0.75)
Pair = tuple[list[np.ndarray], list[np.ndarray]]  # predicted, annotated lanes of one image
Counts = tuple[int, int, int]


@dataclass(frozen=True)
class Timed:
    """One way of scoring.

    Attributes:
        name: for people.
        seconds: the fastest of some rounds over all images.
        counts: tp, fp, fn at each threshold.
    """

    name: str
    seconds: float
    counts: tuple[Counts, ...]


def scorer_speed(pairs: Sequence[Pair], rounds: int = 3) -> list[Timed]:
    """Time ours first, then the plain ones, in turn; on one thread.

    - ours: every lane drawn once, on a mask cut to where it lies.
    - straightforward: as one writes the official evaluator in Python: for every pair of lanes two
      masks of the whole frame, a cv2.line per spline segment.
    - official method: the same masks per pair, drawn by one call, splines for nothing: what is left
      is the work inside OpenCV, which the official C++ program does too.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        ways = {
            "ours": _ours,
            "straightforward Python": _straightforward,
            "official method, OpenCV's work alone": _Official(pairs),
        }
        seconds = dict.fromkeys(ways, float("inf"))
        counts: dict[str, tuple[Counts, ...]] = {}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                counts[name] = _total(way, pairs)
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    finally:
        cv2.setNumThreads(threads)
    return [Timed(name, seconds[name], counts[name]) for name in ways]


def read_pairs(pred: Path, anno: Path, list_file: Path) -> list[Pair]:
    """Lanes of every image of a list; a missing file is an image without lanes."""
    names = read_list(list_file)
    if not names:
        raise TrtLaneError(f"{list_file} names no image; expected one per line")
    pairs = []
    for name in names:
        paths = [folder / lines_name(name) for folder in (pred, anno)]
        found = [read_lines(path) if path.exists() else [] for path in paths]
        pairs.append((found[0], found[1]))
    return pairs


def made_pairs(images: int, seed: int = 0) -> list[Pair]:
    """Lanes like CULane's: up to 4 annotated, predictions a few pixels beside them."""
    rng = np.random.default_rng(seed)
    rows = np.arange(590, 290, -10.0)
    pairs = []
    for _ in range(images):
        anno = []
        for x in np.sort(rng.uniform(100, 1500, rng.integers(1, 5))):
            xs = x + (590 - rows) * rng.uniform(-0.9, 0.9) + (590 - rows) ** 2 * 3e-4
            anno.append(np.stack([xs, rows], axis=1))
        pred = [lane + np.array([rng.normal(0, 8), 0]) for lane in anno if rng.random() < 0.9]
        pairs.append((pred, anno))
    return pairs


def _total(
    way: Callable[[int, Pair], Sequence[Counts]], pairs: Sequence[Pair]
) -> tuple[Counts, ...]:
    totals = np.zeros((len(THRESHOLDS), 3), int)
    for number, pair in enumerate(pairs):
        totals += way(number, pair)
    return tuple((int(a), int(b), int(c)) for a, b, c in totals)


def _ours(number: int, pair: Pair) -> list[Counts]:
    return [(c.tp, c.fp, c.fn) for c in score_image(*pair, thresholds=THRESHOLDS)]


def _straightforward(number: int, pair: Pair) -> list[Counts]:
    pred, anno = pair
    ious = np.zeros((len(anno), len(pred)))
    for i, ours in enumerate(anno):
        for j, theirs in enumerate(pred):
            if min(len(ours), len(theirs)) < 2:
                continue
            a, b = _whole_mask(ours), _whole_mask(theirs)
            union = int(np.logical_or(a, b).sum())
            ious[i, j] = int(np.logical_and(a, b).sum()) / union if union else np.nan
    return _matched(ious)


def _whole_mask(lane: np.ndarray) -> np.ndarray:
    lane = np.asarray(lane, np.float32)
    points = lane if len(lane) == 2 else spline_points(lane)
    mask = np.zeros(FRAME_HW, np.uint8)
    if not np.isfinite(points).all():
        return _pasted(lane)
    for start, end in pairwise(np.rint(points).astype(int).tolist()):
        cv2.line(mask, start, end, 1, WIDTH_PX)
    return mask


def _pasted(lane: np.ndarray) -> np.ndarray:
    """A lane with doubled points: its spline is NaN, and what OpenCV draws then is chance."""
    strip = draw_strip(lane)
    mask = np.zeros(FRAME_HW, np.uint8)
    height, width = strip.mask.shape
    mask[strip.top : strip.top + height, strip.left : strip.left + width] = strip.mask
    return mask


class _Official:
    """Splines are made before, so that only masks are timed."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._lanes = [tuple([self._path(x) for x in lanes] for lanes in pair) for pair in pairs]

    def __call__(self, number: int, pair: Pair) -> list[Counts]:
        pred, anno = self._lanes[number]
        ious = np.zeros((len(anno), len(pred)))
        for i, ours in enumerate(anno):
            for j, theirs in enumerate(pred):
                if ours is None or theirs is None:
                    continue
                a, b = self._draw(ours), self._draw(theirs)
                shared = cv2.countNonZero(cv2.bitwise_and(a, b))
                union = cv2.countNonZero(a) + cv2.countNonZero(b) - shared
                ious[i, j] = shared / union if union else np.nan
        return _matched(ious)

    @staticmethod
    def _path(lane: np.ndarray) -> np.ndarray | None:
        if len(lane) < 2:
            return None
        points = np.asarray(lane, np.float32)
        points = points if len(lane) == 2 else spline_points(points)
        if not np.isfinite(points).all():
            return _pasted(lane)
        return np.rint(points).astype(np.int32)

    @staticmethod
    def _draw(path: np.ndarray) -> np.ndarray:
        if path.shape == FRAME_HW:
            return path.copy()
        mask = np.zeros(FRAME_HW, np.uint8)
        cv2.polylines(mask, [path], False, 1, WIDTH_PX)
        return mask


def _matched(ious: np.ndarray) -> list[Counts]:
    found = []
    if ious.size:
        columns = match_heaviest(ious, MATCH_TOLERANCE)
        found = [ious[row, column] for row, column in enumerate(columns) if column >= 0]
    counts = []
    for threshold in THRESHOLDS:
        tp = sum(bool(iou > threshold) for iou in found)
        counts.append((tp, ious.shape[1] - tp, ious.shape[0] - tp))
    return counts
