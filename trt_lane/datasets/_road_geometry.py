"""Where things on a curved, gently rising road appear in a forward camera's frame.

Axes: X to the right, Y up from the road, Z forward, metres, the camera above X = Z = 0. Columns and
rows are pixels of CULane's 1640 x 590 frame; the renderer scales them.
"""

from dataclasses import dataclass

import numpy as np

FULL_HEIGHT_PX, FULL_WIDTH_PX = 590, 1640
FARTHEST_GROUND_M = 400.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the road, tilted by pitch only."""

    focal_px: float
    height_m: float
    horizon_row_px: float
    centre_col_px: float = (FULL_WIDTH_PX - 1) / 2


@dataclass(frozen=True)
class Road:
    """A clothoid seen from the camera, with a constant vertical curvature (positive: uphill)."""

    heading: float
    curvature_per_m: float
    curvature_rate_per_m2: float
    vertical_curvature_per_m: float

    def lateral_m(self, distance_m):
        """X of the line that runs through the camera's foot, parallel to the road."""
        z = np.asarray(distance_m)
        bend = self.curvature_per_m / 2 + self.curvature_rate_per_m2 / 6 * z
        return z * (self.heading + bend * z)

    def slope(self, distance_m):
        """Derivative of lateral_m: the tangent of the road's direction."""
        z = np.asarray(distance_m)
        return self.heading + z * (self.curvature_per_m + self.curvature_rate_per_m2 / 2 * z)


@dataclass(frozen=True)
class View:
    """A camera on a road: projects points and lanes."""

    camera: Camera
    road: Road

    def distance_m(self, rows_px: np.ndarray) -> np.ndarray:
        """Distance of the ground seen in each row; NaN where the row is above the ground."""
        camera, bend = self.camera, self.road.vertical_curvature_per_m
        tangent = (np.asarray(rows_px, np.float64) - camera.horizon_row_px) / camera.focal_px
        inside = tangent**2 + 2 * bend * camera.height_m
        seen = (inside >= 0) & (tangent + np.sqrt(np.maximum(inside, 0)) > 0)
        below = np.where(seen, tangent + np.sqrt(np.where(seen, inside, 1)), 1)
        distance = 2 * camera.height_m / below
        return np.where(seen & (distance <= FARTHEST_GROUND_M), distance, np.nan)

    def ground_top_row_px(self) -> float:
        """The first row that shows ground."""
        rows = np.arange(0, FULL_HEIGHT_PX, 0.5)
        return float(rows[np.isfinite(self.distance_m(rows))][0])

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) X, Y above the road, Z -> (..., 2) column, row; Z is kept above 0.7 m."""
        x, y, z = np.moveaxis(np.asarray(points_m, np.float64), -1, 0)
        z = np.maximum(z, 0.7)
        camera = self.camera
        drop = camera.height_m - self.road.vertical_curvature_per_m * z**2 / 2 - y
        cols = camera.centre_col_px + camera.focal_px * x / z
        rows = camera.horizon_row_px + camera.focal_px * drop / z
        return np.stack([cols, rows], -1)

    def along_road(self, offsets_m, heights_m, distances_m) -> np.ndarray:
        """Like project, for points given by their offset from the camera's foot along the road."""
        z = np.maximum(np.asarray(distances_m, np.float64), 0.7)
        x = np.asarray(offsets_m) + self.road.lateral_m(z)
        return self.project(np.stack(np.broadcast_arrays(x, heights_m, z), -1))
