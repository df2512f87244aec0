"""Lane mask: one map of lane markings without instances, beside one of the drivable area.

Ours: the official code of such networks stops at the mask. Instances are connected components, a
point is the centre of a component's run of pixels in a row. Where a component holds several lines,
as when two meet at the horizon, each line is followed from the bottom on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trt_lane.lanes import LaneSet

CLASSES = 2  # background, lane


@dataclass(frozen=True)
class LaneMask:
    """Numbers of a mask decoder; pixels are the map's unless the name says frame.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        input_hw: height and width of the maps.
        threshold: a pixel is lane if its probability is above it; 0.5 is the official argmax.
        min_area_px: components of fewer pixels are noise.
        min_rows: lines over fewer rows are noise; a lane ahead spans many.
        row_step: rows between two points.
        max_lanes: of more lines, those over the fewest rows are dropped.
    """

    frame_hw: tuple[int, int]
    input_hw: tuple[int, int]
    threshold: float = 0.5
    min_area_px: int = 60
    min_rows: int = 10
    row_step: int = 3
    max_lanes: int = 8

    def __post_init__(self) -> None:
        if (
            min(*self.frame_hw, *self.input_hw, self.min_rows, self.row_step) < 1
            or self.max_lanes < 1
        ):
            raise ValueError("sizes, min_rows, row_step and max_lanes must be at least 1")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; expected a probability inside (0, 1)")
        if self.min_area_px < 0:
            raise ValueError(f"min_area_px is {self.min_area_px}; expected at least 0")

    def __call__(self, drivable: np.ndarray, lane: np.ndarray) -> LaneSet:
        """Lanes of one frame, from left to right at their lowest points.

        Args:
            drivable: logits (2, h, w) of the drivable area; no lane depends on them.
            lane: logits (2, h, w), background first.
        """
        margin = self._margin(drivable, lane)
        lines = [
            line
            for window, component in self._components(self._is_lane(margin))
            for line in _follow(component, window)
            if len(line) >= self.min_rows
        ]
        lines = sorted(lines, key=len, reverse=True)[: self.max_lanes]
        lines.sort(key=lambda line: _centres(line)[0, 0])
        scores = [_score(margin, line) for line in lines]
        return LaneSet.from_lanes([self._to_frame(line) for line in lines], self.frame_hw, scores)

    def mask(self, drivable: np.ndarray, lane: np.ndarray) -> np.ndarray:
        """Lane pixels bool (h, w) of one frame; heads as for a call."""
        return self._is_lane(self._margin(drivable, lane))

    def _is_lane(self, margin: np.ndarray) -> np.ndarray:
        # Compared before the sigmoid: the float32 probability of a margin near 0 is exactly 0.5.
        return margin > np.log(self.threshold / (1 - self.threshold))

    def _margin(self, drivable: np.ndarray, lane: np.ndarray) -> np.ndarray:
        """Logit of the lane's probability (h, w); -inf where a logit is not finite."""
        shape = (CLASSES, *self.input_hw)
        lane = np.asarray(lane, np.float32)
        for name, found in (("drivable", np.shape(drivable)), ("lane", lane.shape)):
            if found != shape:
                raise ValueError(f"{name} has shape {found}; expected {shape}")
        sound = np.isfinite(lane).all(axis=0)
        background, foreground = np.where(sound, lane, 0)
        with np.errstate(over="ignore"):  # 3e38 + 3e38: surely one or the other
            return np.where(sound, foreground - background, -np.inf)

    def _components(self, mask: np.ndarray) -> list[tuple[tuple[int, int], np.ndarray]]:
        """Top left corner and mask of each component that is large enough."""
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=8
        )
        components = []
        for label, (left, top, width, height, area) in enumerate(stats):
            if label and area >= self.min_area_px and height >= self.min_rows:
                crop = labels[top : top + height, left : left + width] == label
                components.append(((int(top), int(left)), crop))
        return components

    def _to_frame(self, line: np.ndarray) -> np.ndarray:
        """Points (P, 2) in frame pixels, by the field's plain scaling."""
        scale_y, scale_x = (f / n for f, n in zip(self.frame_hw, self.input_hw, strict=True))
        return _centres(line)[:: self.row_step] * (scale_x, scale_y)


def _centres(line: np.ndarray) -> np.ndarray:
    """(P, 2) x, y of the middle of each run (row, first, last)."""
    return np.stack([(line[:, 1] + line[:, 2]) / 2, line[:, 0]], axis=1)


def _follow(mask: np.ndarray, corner: tuple[int, int]) -> list[np.ndarray]:
    """Lines of a component, bottom first: int (P, 3) row, first and last column of each run.

    A line goes on with the run of the row above that shares most columns with its own; diagonal
    contact counts. A run without a line below starts one.
    """
    row, first, last = _runs(mask)
    begins = np.searchsorted(row, np.arange(len(mask) + 1))
    above = np.full(len(row), -1)  # the run that continues each run
    starts = np.ones(len(row), bool)
    for r in range(len(mask) - 1, 0, -1):
        lower, upper = slice(begins[r], begins[r + 1]), slice(begins[r - 1], begins[r])
        shared = np.minimum(last[lower, None], last[upper]) - np.maximum(
            first[lower, None], first[upper]
        )
        pairs = np.argwhere(shared >= -1)
        for i, j in pairs[np.argsort(-shared[tuple(pairs.T)], kind="stable")]:
            below, ahead = lower.start + i, upper.start + j
            if above[below] < 0 and starts[ahead]:
                above[below], starts[ahead] = ahead, False
    runs = np.stack([row + corner[0], first + corner[1], last + corner[1]], axis=1)
    lines = []
    for run in np.flatnonzero(starts):
        line = [run]
        while above[line[-1]] >= 0:
            line.append(above[line[-1]])
        lines.append(runs[line])
    return lines


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, first and last column of every run of pixels, rows ascending."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    return row, first, end - 1


def _score(margin: np.ndarray, line: np.ndarray) -> float:
    """Mean probability of a line's pixels."""
    pixels = np.concatenate([margin[row, first : last + 1] for row, first, last in line])
    with np.errstate(over="ignore"):
        return float((1 / (1 + np.exp(-pixels))).mean())


DECODER = LaneMask
