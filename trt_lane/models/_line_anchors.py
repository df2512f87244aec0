"""LaneATT's anchors: straight lines from points on the left, lower and right edge of the image.

Angles, order and rounding follow lucastabelini/LaneATT, commit 2f8583b, lib/models/laneatt.py; the
float32 operations are in its order, so that places at half a cell round to the same side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

# Degrees against the image's x axis, of Line-CNN.
LEFT = (72.0, 60.0, 49.0, 39.0, 30.0, 22.0)
RIGHT = (108.0, 120.0, 131.0, 141.0, 150.0, 158.0)
BOTTOM = (
    *(165.0, 150.0, 141.0, 131.0, 120.0, 108.0, 100.0),
    *(90.0, 80.0, 72.0, 60.0, 49.0, 39.0, 30.0, 15.0),
)


@dataclass(frozen=True)
class LineAnchors:
    """Anchors before any are chosen.

    Attributes:
        starts: float64 (A, 2): y as a fraction downwards, x as a fraction rightwards.
        degrees: float64 (A,).
    """

    starts: np.ndarray
    degrees: np.ndarray

    @classmethod
    def around(cls, side_origins: int, bottom_origins: int) -> LineAnchors:
        """All angles from evenly spread points: left, lower, then right edge, from the far end."""
        along_side = np.linspace(1, 0, side_origins)
        along_bottom = np.linspace(1, 0, bottom_origins)
        starts, degrees = [], []
        for edge, angles in (("left", LEFT), ("bottom", BOTTOM), ("right", RIGHT)):
            points = {
                "left": [(y, 0.0) for y in along_side],
                "bottom": [(1.0, x) for x in along_bottom],
                "right": [(y, 1.0) for y in along_side],
            }[edge]
            starts.append(np.repeat(points, len(angles), axis=0))
            degrees.append(np.tile(angles, len(points)))
        return cls(np.concatenate(starts), np.concatenate(degrees))

    def __len__(self) -> int:
        return len(self.degrees)

    def chosen(self, order: np.ndarray) -> LineAnchors:
        """The anchors of these indices, in this order."""
        return LineAnchors(self.starts[order], self.degrees[order])

    def extents(self) -> np.ndarray:
        """float32 (A, 3): height of the start above the bottom, x of the start, no length yet."""
        y, x = self.starts.T
        return np.stack([1 - y, x, np.zeros_like(x)], axis=1).astype(np.float32)

    def xs(self, rows: int, width: int) -> np.ndarray:
        """Pixels along x on evenly spread rows from the bottom to the top, float32 (A, rows)."""
        y, x = self.starts.astype(np.float32).T[:, :, None]
        slope = np.tan(np.radians(self.degrees)).astype(np.float32)[:, None]
        height = np.float32(1) - _fractions(rows)[None] - np.float32(1) + y
        return (x + height / slope) * np.float32(width)

    def cells(self, map_hw: tuple[int, int], stride: int) -> np.ndarray:
        """Which cell of a flat feature map each anchor crosses on each map row, int64 (A, h).

        A line outside the map crosses the cell after the last one, h * w.
        """
        height, width = map_hw
        columns = np.round(self.xs(height, width * stride) / np.float32(stride))[:, ::-1]
        # A line at the map's right edge, x == w, still takes the last column: as the official mask.
        outside = (columns < 0) | (columns > width)
        cells = np.arange(height) * width + np.clip(columns, 0, width - 1).astype(np.int64)
        return np.where(outside, height * width, cells)


def _fractions(rows: int) -> np.ndarray:
    """1 down to 0, float32, of torch as in the official code: numpy differs in the last bit."""
    return torch.linspace(1, 0, rows, dtype=torch.float32, device="cpu").numpy()
