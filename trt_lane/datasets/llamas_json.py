"""LLAMAS' label files: markers along lane lines, turned into a column for every row.

Source of every rule: label_scripts/spline_creator.py and label_file_scripts.py (read_json) of
karstenBehrendt/unsupervised_llamas; utils/llamas_utils.py of lucastabelini/LaneATT is the same.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from trt_lane.datasets.base import read_text
from trt_lane.datasets.culane_lines import FARTHEST_PX
from trt_lane.errors import TrtLaneError

FRAME_HW = (717, 1276)
LANES = ("l1", "l0", "r0", "r1")  # outwards from the car: these are annotated for the benchmark
MIN_HEIGHT_PX = 20
MIN_MARKERS = 2
SAMPLED_HEIGHT_PX = 2  # a marker no higher than this counts with its lower end alone


@dataclass(frozen=True)
class Marker:
    """A painted dash, or a part of a line: its near and far end in pixels.

    Attributes:
        start: x and y of the near end.
        end: of the far end.
        distance_m: of the near end, along the optical axis.
    """

    start: tuple[int, int]
    end: tuple[int, int]
    distance_m: float


def read_columns(path: Path) -> np.ndarray:
    """Columns of the lanes l1, l0, r0, r1 at every row.

    Returns:
        float64 (4, 717), NaN where a lane is not: above its farthest marker, below its nearest one
        where that does not lead to the frame's border, or altogether.

    Raises:
        TrtLaneError: not JSON, or not as LLAMAS writes labels.
    """
    columns = np.full((len(LANES), FRAME_HW[0]), np.nan)
    for lane_id, markers in _named(_kept(_parse(path)), path):
        if lane_id in LANES:
            columns[LANES.index(lane_id)] = _columns(_extended(markers))
    return columns


def lanes_of(columns: np.ndarray) -> list[np.ndarray]:
    """Lanes (P, 2) of columns (L, 717), from the top row downwards; one of a point is none."""
    lanes = []
    for xs in columns:
        rows = np.flatnonzero(xs >= 0)  # NaN is not
        if len(rows) > 1:
            lanes.append(np.stack([xs[rows], rows.astype(np.float64)], axis=1))
    return lanes


def _kept(lanes: Sequence[tuple[str, list[Marker]]]) -> list[tuple[str, list[Marker]]]:
    """Lanes of enough markers over enough rows."""
    kept = []
    for lane_id, markers in lanes:
        rows = [marker.start[1] for marker in markers]
        if len(markers) >= MIN_MARKERS and max(rows) - min(rows) >= MIN_HEIGHT_PX:
            kept.append((lane_id, markers))
    return kept


def _named(lanes: Sequence[tuple[str, list[Marker]]], path: Path) -> list[tuple[str, list[Marker]]]:
    """Lanes counted anew from the car outwards, as what is left is: l3, l2, l0 are l2, l1, l0."""
    new_name: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for lane_id in sorted(lane_id for lane_id, _ in lanes):
        side = lane_id[:1]
        if side not in ("l", "r"):
            raise TrtLaneError(f"{path}: lane_id {lane_id!r}; expected l0, l1 … or r0, r1 …")
        new_name[lane_id] = f"{side}{seen[side]}"
        seen[side] += 1
    return [(new_name[lane_id], markers) for lane_id, markers in lanes]


def _extended(markers: list[Marker]) -> list[Marker]:
    """The markers and one more, that leads from the nearest one to the frame's border."""
    slanted = [m for m in markers if m.start[0] != m.end[0] and m.start[1] != m.end[1]]
    # The official code ends with an error where no marker is slanted.
    nearest = min(slanted, key=lambda m: m.distance_m, default=None)
    if nearest is None or nearest.distance_m < 0:
        return markers
    (x, y), (end_x, end_y) = nearest.start, nearest.end
    bottom, right = FRAME_HW[0] - 1, FRAME_HW[1]
    per_row, per_column = (end_x - x) / (end_y - y), (end_y - y) / (end_x - x)
    border = (x + (bottom - y) * per_row, float(bottom))
    if border[0] < 0:
        border = (0.0, y - x * per_column)
    elif border[0] > right:
        border = (float(right), y + (right - x) * per_column)
    start = (round(border[0]), round(border[1]))
    return [Marker(start, nearest.start, 1.0), *markers]


def _columns(markers: list[Marker]) -> np.ndarray:
    """Mean column of all markers at every row (717,), straight between rows that have one."""
    height = FRAME_HW[0]
    sums, counts = [0] * height, [0] * height

    def add(x: int, y: int) -> None:
        if 0 <= y < height:  # officially an error below, and counted from the bottom above
            sums[y] += x
            counts[y] += 1

    for marker in markers:
        (x, y), (end_x, end_y) = marker.start, marker.end
        add(x, y)
        rows = y - end_y
        if rows > SAMPLED_HEIGHT_PX:
            # The near end counts twice, as officially.
            for i in range(max(0, y - height + 1), min(rows, y) + 1):
                add(round(x + (end_x - x) / rows * i), y - i)
    means = [
        total / count if count else math.nan for total, count in zip(sums, counts, strict=True)
    ]
    # -1 is the official code's word for "none", even where it is a mean.
    known = [y for y, x in enumerate(means) if not math.isnan(x) and x != -1]
    xs = [math.nan] * height
    for y in known:
        xs[y] = means[y]
    for above, below in pairwise(known):
        for y in range(above + 1, below):
            # Step by step: the scorer cuts fractions off, so that a last bit is a pixel.
            xs[y] = xs[y - 1] + (xs[below] - xs[y - 1]) / (below - y + 1)
    return np.array(xs)


def _parse(path: Path) -> list[tuple[str, list[Marker]]]:
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise TrtLaneError(f"{path} is not JSON ({error}); copy it again") from None
    lanes = value.get("lanes") if isinstance(value, Mapping) else None
    if not isinstance(lanes, list):
        raise TrtLaneError(f"{path} has no list of lanes; expected LLAMAS' label")
    found = []
    for i, lane in enumerate(lanes):
        lane_id = lane.get("lane_id") if isinstance(lane, Mapping) else None
        markers = lane.get("markers") if isinstance(lane, Mapping) else None
        if not isinstance(lane_id, str) or not isinstance(markers, list):
            raise TrtLaneError(f"{path}, lane {i}: no lane_id or no list of markers")
        found.append((lane_id, [_marker(m, f"{path}, lane {lane_id}") for m in markers]))
    return found


def _marker(value: object, place: str) -> Marker:
    try:
        ends = [
            (int(value[end]["x"]), int(value[end]["y"])) for end in ("pixel_start", "pixel_end")
        ]
        distance_m = float(value["world_start"]["z"])
    except (TypeError, KeyError, ValueError, OverflowError):
        raise TrtLaneError(
            f"{place}: {str(value)[:60]!r}; expected a marker's pixel_start, pixel_end and "
            "world_start"
        ) from None
    far = max(abs(v) for end in ends for v in end)
    if not (far <= FARTHEST_PX and math.isfinite(distance_m)):
        raise TrtLaneError(f"{place}: a marker at {ends}, {distance_m} m is no place in a frame")
    return Marker(*ends, distance_m)
