"""LaneSet: the lanes of one frame, in that frame's pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# BGR, from left to right; the fifth and later lanes start over.
LANE_COLOURS = ((80, 175, 76), (243, 150, 33), (7, 193, 255), (176, 39, 156))


@dataclass(frozen=True, eq=False)
class LaneSet:
    """Lanes of one frame.

    Attributes:
        points: float32 (L, P, 2), x then y in frame pixels; NaN where a lane has no point.
            Within a lane the points go from the bottom of the frame upwards.
        scores: float32 (L,) in [0, 1].
        frame_hw: height and width of the frame that the points refer to.
    """

    points: np.ndarray  # (L, P, 2)
    scores: np.ndarray  # (L,)
    frame_hw: tuple[int, int]

    def __post_init__(self) -> None:
        points = np.asarray(self.points, np.float32)
        scores = np.asarray(self.scores, np.float32)
        if points.ndim != 3 or points.shape[2] != 2:
            raise ValueError(f"points have shape {points.shape}; expected (lanes, points, 2)")
        if scores.shape != points.shape[:1]:
            raise ValueError(f"scores have shape {scores.shape}; expected {points.shape[:1]}")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "frame_hw", (int(self.frame_hw[0]), int(self.frame_hw[1])))

    @classmethod
    def from_lanes(
        cls,
        lanes: Iterable[np.ndarray],
        frame_hw: tuple[int, int],
        scores: Sequence[float] | None = None,
    ) -> LaneSet:
        """Pack lanes of different lengths, each (P_i, 2), padding with NaN."""
        arrays = [np.asarray(lane, np.float32) for lane in lanes]
        arrays = [a if a.size else a.reshape(0, 2) for a in arrays]
        odd = [a.shape for a in arrays if a.ndim != 2 or a.shape[1] != 2]
        if odd:
            raise ValueError(f"a lane has shape {odd[0]}; expected (points, 2)")
        longest = max((len(a) for a in arrays), default=0)
        points = np.full((len(arrays), longest, 2), np.nan, np.float32)
        for row, lane in zip(points, arrays, strict=True):
            row[: len(lane)] = lane
        return cls(points, np.ones(len(arrays)) if scores is None else np.asarray(scores), frame_hw)

    def __len__(self) -> int:
        return len(self.points)

    def lanes(self) -> list[np.ndarray]:
        """The lanes as float32 (P_i, 2) arrays without absent points, bottom first."""
        return [lane[np.isfinite(lane).all(axis=1)] for lane in self.points]

    def at_rows(self, rows: np.ndarray) -> np.ndarray:
        """Column x of every lane at the given rows: linear, NaN outside the lane's extent.

        Args:
            rows: (R,) y in frame pixels, any order.

        Returns:
            float32 (L, R).
        """
        rows = np.asarray(rows, np.float32)
        out = np.full((len(self), len(rows)), np.nan, np.float32)
        for i, lane in enumerate(self.lanes()):
            if len(lane) < 2:
                continue
            order = np.argsort(lane[:, 1], kind="stable")
            out[i] = np.interp(rows, lane[order, 1], lane[order, 0], left=np.nan, right=np.nan)
        return out

    def scaled_to(self, frame_hw: tuple[int, int]) -> LaneSet:
        """The same lanes in the pixels of a frame of another size."""
        factor = np.float32([frame_hw[1] / self.frame_hw[1], frame_hw[0] / self.frame_hw[0]])
        return LaneSet(self.points * factor, self.scores, frame_hw)

    def draw(
        self,
        frame: np.ndarray,
        colour: tuple[int, int, int] | None = None,
        thickness: int | None = None,
    ) -> np.ndarray:
        """A copy of the BGR frame with the lanes drawn, one colour per lane unless one is given."""
        canvas = frame.copy()
        lanes = self if frame.shape[:2] == self.frame_hw else self.scaled_to(frame.shape[:2])
        width_px = thickness or max(2, round(frame.shape[1] / 320))
        # Far outside is as good as very far, and fits in OpenCV's integers.
        limit = 8 * max(frame.shape)
        for i, lane in enumerate(lanes.lanes()):
            bgr = colour or LANE_COLOURS[i % len(LANE_COLOURS)]
            cv2.polylines(
                canvas,
                [np.round(np.clip(lane, -limit, limit)).astype(np.int32)],
                False,
                bgr,
                width_px,
                cv2.LINE_AA,
            )
        return canvas
