"""LSTR's lane shape: per query a class and the curve of a lane under a pitched, rolled camera.

With y and x as fractions of the frame, and (lower, upper, k, f, m, n, b, b') from the head:

    x = k / (y - f)^2 + m / (y - f) + n + b * y - b'

Decoding follows liuruijin17/LSTR (db/tusimple.py of branch main, db/culane.py of branch culane).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_lane.lanes import LaneSet

CURVE_NUMBERS = 8


@dataclass(frozen=True)
class LstrCurve:
    """Numbers of the curve heads.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        rows_px: y in frame pixels at which curves are sampled, any order.
        queries: lanes that the network can say at most.
        classes: of pred_logits.
        lane_class: the class that means lane; a query is a lane where it is the largest.
        to_bottom: whether lanes go on below their lower end to the bottom of the frame, as the
            official CULane code has it.
        min_points: lanes of fewer points are dropped.
    """

    frame_hw: tuple[int, int]
    rows_px: tuple[float, ...]
    queries: int
    classes: int
    lane_class: int = 1
    to_bottom: bool = False
    min_points: int = 2

    def __post_init__(self) -> None:
        if not self.rows_px or not np.isfinite(self.rows_px).all():
            raise ValueError(f"rows_px is {self.rows_px}; expected finite rows to sample at")
        if min(self.queries, self.min_points, *self.frame_hw) < 1:
            raise ValueError("queries, min_points and frame_hw must be at least 1")
        if not 0 <= self.lane_class < self.classes:
            raise ValueError(f"lane_class is {self.lane_class}; expected 0..{self.classes - 1}")

    def __call__(self, pred_logits: np.ndarray, pred_curves: np.ndarray) -> LaneSet:
        """Lanes of one frame from classes (Q, classes) and curves (Q, 8), in query order."""
        logits = _checked("pred_logits", pred_logits, (self.queries, self.classes))
        curves = _checked("pred_curves", pred_curves, (self.queries, CURVE_NUMBERS))
        sound = np.isfinite(logits).all(axis=1) & np.isfinite(curves).all(axis=1)
        logits, curves = logits[sound], curves[sound]
        lane = logits.argmax(axis=1) == self.lane_class
        points = self.sample(curves[lane])
        kept = np.isfinite(points[..., 0]).sum(axis=1) >= self.min_points
        scores = _softmax(logits[lane])[:, self.lane_class]
        return LaneSet(points[kept], scores[kept], self.frame_hw)

    def sample(self, curves: np.ndarray) -> np.ndarray:
        """Points (L, R, 2) of curves (L, 8) in frame pixels, NaN outside curve and frame."""
        height, width = self.frame_hw
        rows_px = np.sort(np.asarray(self.rows_px, np.float64))[::-1]  # bottom of the frame first
        y = rows_px / height
        ends, (k, f, m, n, b, b2) = curves[:, :2], curves[:, 2:].T[..., None]
        with np.errstate(all="ignore"):  # a row at the vanishing line (y = f) is left out below
            x = (k / (y - f) ** 2 + m / (y - f) + n + b * y - b2) * width  # (L, R)
        # Trained on lines that start at the bottom (CULane) or the top (TuSimple), the two ends
        # come in either order.
        inside = y >= ends.min(axis=1, keepdims=True)
        if not self.to_bottom:
            inside &= y <= ends.max(axis=1, keepdims=True)
        # TuSimple's official code leaves points beyond the right edge in; they lie on no frame.
        inside &= (x >= 0) & (x <= width - 1)
        points = np.stack(np.broadcast_arrays(x, rows_px), axis=-1)
        return np.where(inside[..., None], points, np.nan)


def _checked(name: str, head: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    head = np.asarray(head, np.float64)
    if head.shape != shape:
        raise ValueError(f"{name} has shape {head.shape}; expected {shape}")
    return head


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


DECODER = LstrCurve
