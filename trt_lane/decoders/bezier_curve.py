"""Bézier curves: for every column of the feature map a lane logit and four control points.

Decoding follows voldemortX/pytorch-auto-drive 137e63a (lane_detection/bezier_base.py): a column is
a lane when its probability is above a threshold and the largest of its neighbourhood; its cubic is
sampled evenly in the curve's parameter or, where the answer is due at fixed rows, looked up there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_lane.lanes import LaneSet

CONTROL_POINTS = 4  # of a cubic


@dataclass(frozen=True)
class BezierCurve:
    """Numbers of a curve head; control points are shares of the frame's width and height.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        columns: Q, columns that each hold one candidate.
        threshold: a lane's probability is above it.
        window: columns of the neighbourhood, odd; 0 lets neighbours stand. Of equal probabilities
            the leftmost wins.
        max_lanes: of more lanes, the least certain ones are dropped; 0 keeps all.
        samples: points along the curve.
        rows_px: if given, points lie in these frame rows, at the nearest of the samples.
        row_tolerance_px: a row without a sample this near has no point, nor has one whose sample is
            left or right of the frame. Only with rows_px.
    """

    frame_hw: tuple[int, int]
    columns: int
    threshold: float = 0.95
    window: int = 9
    max_lanes: int = 4
    samples: int = 50
    rows_px: tuple[float, ...] = ()
    row_tolerance_px: float = 5.0

    def __post_init__(self) -> None:
        if min(self.columns, *self.frame_hw) < 1 or self.samples < 2:
            raise ValueError("columns and frame_hw must be at least 1, samples at least 2")
        if self.window and (self.window < 0 or self.window % 2 == 0):
            raise ValueError(f"window is {self.window}; expected 0 or an odd number of columns")
        if self.max_lanes < 0 or not np.isfinite(self.threshold):
            raise ValueError("max_lanes must not be negative and threshold must be finite")
        if not np.isfinite([*self.rows_px, self.row_tolerance_px]).all():
            raise ValueError("rows_px and row_tolerance_px must be finite")

    def __call__(self, logits: np.ndarray, curves: np.ndarray) -> LaneSet:
        """Lanes of one frame from logits (Q,) and control points (Q, 4, 2), x before y."""
        logits, curves = np.asarray(logits, np.float32), np.asarray(curves, np.float32)
        for name, head, shape in (
            ("logits", logits, (self.columns,)),
            ("curves", curves, (self.columns, CONTROL_POINTS, 2)),
        ):
            if head.shape != shape:
                raise ValueError(f"{name} have shape {head.shape}; expected {shape}")
        sound = np.isfinite(logits) & np.isfinite(curves).all(axis=(1, 2))
        probability = np.where(sound, _sigmoid(np.where(sound, logits, 0)), 0)
        chosen = self._choose(probability)
        # float64 before the product: the official code samples in double precision.
        samples = _bernstein(self.samples) @ curves[chosen].astype(np.float64)  # (L, samples, 2)
        sample = self._at_rows if self.rows_px else self._along_curve
        lanes = [sample(curve) for curve in samples]
        # Officially a curve that meets none of the rows counts as a lane without points.
        kept = [i for i, lane in enumerate(lanes) if len(lane)]
        return LaneSet.from_lanes(
            [lanes[i] for i in kept], self.frame_hw, probability[chosen][kept].tolist()
        )

    def _choose(self, probability: np.ndarray) -> np.ndarray:
        """Columns that are lanes, from left to right."""
        lane = probability > self.threshold
        if self.window:
            reach = self.window // 2
            padded = np.pad(probability, reach, constant_values=-np.inf)
            neighbours = np.lib.stride_tricks.sliding_window_view(padded, self.window)
            lane &= neighbours.argmax(axis=1) == reach
        chosen = np.flatnonzero(lane)
        if self.max_lanes:
            while (
                len(chosen) > self.max_lanes
            ):  # lanes tied for the last place all go, as officially
                chosen = chosen[probability[chosen] > probability[chosen].min()]
        return chosen

    def _along_curve(self, curve: np.ndarray) -> np.ndarray:
        """Samples (P, 2), shares of the frame, to frame pixels, bottom first."""
        height, width = self.frame_hw
        with np.errstate(over="ignore"):
            points = (curve * (width, height)).astype(np.float32)
        points = points[np.isfinite(points).all(axis=1)]
        upwards = len(points) == 0 or points[0, 1] >= points[-1, 1]
        return points if upwards else points[::-1]

    def _at_rows(self, curve: np.ndarray) -> np.ndarray:
        """Points (P, 2) in frame pixels at the rows that the curve meets, bottom first."""
        height, width = self.frame_hw
        rows_px = np.sort(self.rows_px)[::-1]
        rows = np.float32(rows_px / height)
        distance = np.abs(rows[:, None] - curve[:, 1])  # (R, samples)
        nearest = distance.argmin(axis=1)
        x = curve[nearest, 0]
        meets = distance.min(axis=1) <= self.row_tolerance_px / height
        meets &= (x >= 0) & (x <= 1)
        return np.stack([x * width, rows_px], axis=1)[meets]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


def _bernstein(samples: int) -> np.ndarray:
    """Weights (samples, 4) of a cubic's control points at evenly spaced parameters."""
    t = np.linspace(0, 1, samples)[:, None]
    k = np.arange(CONTROL_POINTS)
    return (1, 3, 3, 1) * t**k * (1 - t) ** (3 - k)


DECODER = BezierCurve
