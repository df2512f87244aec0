"""Row anchors: for every lane and row, a softmax over grid cells across the image (UFLD).

Decoding follows cfzd/Ultra-Fast-Lane-Detection (commit 353df10): the location is the expectation
over the cells, a row whose largest logit is "no lane" has no point, and a lane of one or two points
is dropped (demo.py). Points stay float where the official code truncates or rounds to whole pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_lane.lanes import LaneSet


@dataclass(frozen=True)
class RowAnchor:
    """Numbers of a row-anchor head: x = (cell + cell_offset) * cell_px + x_offset_px.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        rows_px: y of each row anchor in frame pixels, in the head's order.
        cells: grid cells G across the frame; class G of the head is "no lane".
        lanes: lanes L of the head.
        cell_px: pitch of the grid in frame pixels.
        cell_offset: added to the expected cell index, which counts from 0.
        x_offset_px: added to x.
        min_points: lanes of fewer points are dropped.
    """

    frame_hw: tuple[int, int]
    rows_px: tuple[float, ...]
    cells: int
    lanes: int
    cell_px: float
    cell_offset: float = 0.5
    x_offset_px: float = 0.0
    min_points: int = 3

    def __post_init__(self) -> None:
        if not self.rows_px or not np.isfinite(self.rows_px).all():
            raise ValueError(f"rows_px is {self.rows_px}; expected one finite y per row anchor")
        if min(self.cells, self.lanes, self.min_points, *self.frame_hw) < 1:
            raise ValueError("cells, lanes, min_points and frame_hw must be at least 1")
        if not (np.isfinite([self.cell_px, self.cell_offset, self.x_offset_px]).all()):
            raise ValueError("cell_px, cell_offset and x_offset_px must be finite")
        if self.cell_px <= 0:
            raise ValueError(f"cell_px is {self.cell_px}; expected a positive pitch in pixels")

    @property
    def head_shape(self) -> tuple[int, int, int]:
        """Shape of the logits: G cells and "no lane", R rows, L lanes."""
        return self.cells + 1, len(self.rows_px), self.lanes

    def __call__(self, logits: np.ndarray) -> LaneSet:
        """Lanes of one frame from logits (G + 1, R, L)."""
        locations, confidence = self.locate(logits)  # (R, L) both
        order = np.argsort(-np.asarray(self.rows_px), kind="stable")  # bottom of the frame first
        x = (locations * self.cell_px + self.x_offset_px)[order].T  # (L, R)
        y = np.where(np.isnan(x), np.nan, np.asarray(self.rows_px)[order])
        count = np.isfinite(x).sum(axis=1)
        kept = count >= self.min_points
        confidence = np.where(np.isnan(locations), 0, confidence).sum(axis=0)
        scores = confidence[kept] / count[kept]
        return LaneSet(np.stack([x, y], axis=-1)[kept], scores, self.frame_hw)

    def locate(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position of every row's point in cells, and the probability that there is one.

        Returns:
            float64 (R, L) location = expected cell + cell_offset, NaN where there is no point; and
            float32 (R, L) probability of a lane, 1 - softmax(no lane), in [0, 1].
        """
        logits = np.asarray(logits, np.float32)
        if logits.shape != self.head_shape:
            raise ValueError(
                f"logits have shape {logits.shape}; expected {self.head_shape}: "
                "grid cells and no lane, rows, lanes"
            )
        sound = np.isfinite(logits).all(axis=0)
        logits = np.where(sound, logits, 0)
        present = sound & (logits.argmax(axis=0) != self.cells)
        # The expectation is over places only, without "no lane". float32 probabilities summed in
        # float64 are the official numbers; float64 throughout is 1e-4 cells away from them.
        places = _softmax(logits[:-1])
        expected = np.tensordot(np.arange(self.cells, dtype=np.float64), places, 1)
        location = np.where(present, expected + self.cell_offset, np.nan)
        return location, np.where(sound, 1 - _softmax(logits)[-1], 0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over axis 0; finite float32 of any size."""
    with np.errstate(over="ignore"):  # -3e38 - 3e38 is -inf, whose exp is 0
        weights = np.exp(logits - logits.max(axis=0))
    return weights / weights.sum(axis=0)


DECODER = RowAnchor
