"""Row and column anchors: steep lanes by their x on rows, flat ones by their y on columns (UFLDv2).

Decoding follows cfzd/Ultra-Fast-Lane-Detection-v2 (commit c903880): demo.py pred2coords, and for
TuSimple and CurveLanes evaluation/eval_wrapper.py, which has other numbers and refits CurveLanes'
lanes by parabolas. Points stay float where the official code truncates to whole pixels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import Enum

import numpy as np

from trt_lane.lanes import LaneSet

# Points along a parabola: eval_wrapper.py samples 36 across the lane's width, 41 along its height.
_ACROSS, _ALONG = 36, 41


class Refit(str, Enum):
    """Which lanes are replaced by a least-squares parabola through their points."""

    NONE = "none"
    MERGED = "merged"  # the better of x(y) and y(x) through row and column points together


@dataclass(frozen=True)
class RowColumnAnchor:
    """Numbers of a row-and-column-anchor head.

    A location is the expectation over the cells within `window` of the largest logit, plus half a
    cell; cell G - 1 lies at the frame's far edge.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        rows, columns: row anchors R and column anchors C; columns span the frame's width.
        top, bottom: first and last row anchor as fractions of the frame's height.
        row_cells, column_cells: cells that a location on a row or column falls into.
        lanes: lanes L of the heads.
        row_lanes, column_lanes: lanes read from the row heads and from the column heads.
        window: cells either side of the largest logit that count.
        above_rows, above_columns: a lane needs more points than this.
        refit: see Refit.
    """

    frame_hw: tuple[int, int]
    rows: int
    columns: int
    row_cells: int
    column_cells: int
    top: float
    bottom: float = 1.0
    lanes: int = 4
    row_lanes: tuple[int, ...] = (1, 2)
    column_lanes: tuple[int, ...] = (0, 3)
    window: int = 1
    above_rows: float = 0.0
    above_columns: float = 0.0
    refit: Refit = Refit.NONE

    def __post_init__(self) -> None:
        object.__setattr__(self, "refit", Refit(self.refit))
        sizes = (self.rows, self.columns, self.row_cells, self.column_cells, self.lanes)
        if min(*sizes, *self.frame_hw) < 1 or min(self.row_cells, self.column_cells) < 2:
            raise ValueError("rows, columns, lanes and frame_hw must be positive, cells at least 2")
        if not 0 <= self.top < self.bottom <= 1:
            raise ValueError(f"rows {self.top}..{self.bottom}; expected 0 <= top < bottom <= 1")
        if not {*self.row_lanes, *self.column_lanes} <= set(range(self.lanes)):
            raise ValueError(
                f"lanes {self.row_lanes} and {self.column_lanes}; expected 0..{self.lanes - 1}"
            )
        if self.window < 0 or not np.isfinite([self.above_rows, self.above_columns]).all():
            raise ValueError("window must be >= 0, above_rows and above_columns finite")

    @property
    def head_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Shape of each head, in the network's order."""
        return {
            "loc_row": (self.row_cells, self.rows, self.lanes),
            "loc_col": (self.column_cells, self.columns, self.lanes),
            "exist_row": (2, self.rows, self.lanes),
            "exist_col": (2, self.columns, self.lanes),
        }

    @property
    def rows_px(self) -> np.ndarray:
        """Where the row anchors lie: y in frame pixels, float64 (R,), downwards."""
        return np.linspace(self.top, self.bottom, self.rows) * self.frame_hw[0]

    @property
    def columns_px(self) -> np.ndarray:
        """Where the column anchors lie: x in frame pixels, float64 (C,), rightwards."""
        return np.linspace(0, 1, self.columns) * self.frame_hw[1]

    def __call__(
        self,
        loc_row: np.ndarray,
        loc_col: np.ndarray,
        exist_row: np.ndarray,
        exist_col: np.ndarray,
    ) -> LaneSet:
        """Lanes of one frame in the official order: row lanes, then column lanes.

        Args:
            loc_row: (row_cells, R, L) logits of x on each row.
            loc_col: (column_cells, C, L) logits of y on each column.
            exist_row: (2, R, L) logits of "no lane here" and "lane here".
            exist_col: (2, C, L) likewise.
        """
        given = {
            "loc_row": np.asarray(loc_row, np.float32),
            "loc_col": np.asarray(loc_col, np.float32),
            "exist_row": np.asarray(exist_row, np.float32),
            "exist_col": np.asarray(exist_col, np.float32),
        }
        for name, shape in self.head_shapes.items():
            if given[name].shape != shape:
                raise ValueError(f"{name} has shape {given[name].shape}; expected {shape}")
        across = _locate(given["loc_row"], self.window, self.frame_hw[1])  # (R, L)
        down = _locate(given["loc_col"], self.window, self.frame_hw[0])  # (C, L)
        on_row = _existence(given["exist_row"])
        on_column = _existence(given["exist_col"])

        found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for lane in self.row_lanes:
            here = np.isfinite(on_row[:, lane]) & np.isfinite(across[:, lane])
            if here.sum() > self.above_rows:
                points = np.column_stack([across[here, lane], self.rows_px[here]])
                found.setdefault(lane, []).append((points, on_row[here, lane]))
        for lane in self.column_lanes:
            here = np.isfinite(on_column[:, lane]) & np.isfinite(down[:, lane])
            if here.sum() > self.above_columns:
                points = np.column_stack([self.columns_px[here], down[here, lane]])
                found.setdefault(lane, []).append((points, on_column[here, lane]))

        merged = self.refit is Refit.MERGED
        lanes, scores = [], []
        for lane in sorted(found) if merged else found:
            points = np.concatenate([points for points, _ in found[lane]])
            if merged:
                points = _parabola(points)
            if len(points):
                lanes.append(_bottom_first(points))
                scores.append(np.concatenate([chance for _, chance in found[lane]]).mean())
        return LaneSet.from_lanes(lanes, self.frame_hw, scores)


def _locate(logits: np.ndarray, window: int, length_px: int) -> np.ndarray:
    """Expected place in pixels, float32 (anchors, L) from (cells, anchors, L); NaN if not finite.

    float32 throughout, in the official order of operations.
    """
    cells = len(logits)
    sound = np.isfinite(logits).all(axis=0)
    logits = np.where(sound, logits, 0)
    peak = logits.argmax(axis=0)  # the first of equals, as torch on a CPU
    places = peak + np.arange(-window, window + 1)[:, None, None]  # (2 window + 1, anchors, L)
    inside = (places >= 0) & (places < cells)
    near = np.take_along_axis(logits, np.clip(places, 0, cells - 1), axis=0)
    with np.errstate(over="ignore"):  # -3e38 - 3e38 is -inf, whose exp is 0
        weights = np.where(inside, np.exp(near - near.max(axis=0)), np.float32(0))
    weights /= weights.sum(axis=0)
    expected = (weights * places.astype(np.float32)).sum(axis=0) + np.float32(0.5)
    return np.where(sound, expected / np.float32(cells - 1) * np.float32(length_px), np.nan)


def _existence(logits: np.ndarray) -> np.ndarray:
    """Probability of "lane here" where it is the larger of the two, else NaN: float32 (anchors, L).

    A tie is "no lane here", the first class, as the official argmax has it.
    """
    present = np.isfinite(logits).all(axis=0) & (logits[1] > logits[0])
    with np.errstate(over="ignore"):  # 3e38 - -3e38 is inf, and exp(-inf) is 0
        margin = np.where(present, logits[1], 0) - np.where(present, logits[0], 0)
    return np.where(present, 1 / (1 + np.exp(-margin)), np.nan)


def _parabola(points: np.ndarray) -> np.ndarray:
    """The points' least-squares parabola, along the axis that leaves the smaller error."""
    if len(points) < 3:
        return points[:0]
    x, y = points.T
    of_x, error_of_x = _fit(x, y)
    of_y, error_of_y = _fit(y, x)
    if error_of_y > error_of_x:
        at = np.linspace(x.min(), x.max(), _ACROSS)
        return np.column_stack([at, np.polyval(of_x, at)])
    at = np.linspace(y.min(), y.max(), _ALONG)
    return np.column_stack([np.polyval(of_y, at), at])


def _fit(along: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients of the parabola values(along), and its mean squared error."""
    with warnings.catch_warnings():
        # A lane straight up has no y(x); its error is large and x(y) is taken.
        warnings.simplefilter("ignore", np.exceptions.RankWarning)
        coefficients = np.polyfit(along, values, 2)
    return coefficients, float(np.mean((np.polyval(coefficients, along) - values) ** 2))


def _bottom_first(points: np.ndarray) -> np.ndarray:
    """The lane from its lower end; sorting by y would turn a flat, jittery lane into a zigzag."""
    return points if points[0, 1] >= points[-1, 1] else points[::-1]


DECODER = RowColumnAnchor
