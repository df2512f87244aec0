"""Where things on a curved, gently rising road appear in a forward camera's frame.

Axes: X to the right, Y up from the road, Z forward, metres, the camera above X = Z = 0. Columns and
rows are pixels of CULane's 1640 x 590 frame; the renderer scales them.
"""

from dataclasses import dataclass

import numpy as np

FULL_HEIGHT_PX, FULL_WIDTH_PX = 590, 1640
FARTHEST_GROUND_M = 400.0
NEAREST_M = 0.7  # what is nearer is drawn as if it were here


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

    def project(self, x_m, y_m, z_m) -> np.ndarray:
        """X, Y above the road, Z -> (..., 2) column, row; Z is kept above NEAREST_M."""
        camera = self.camera
        z = np.maximum(z_m, NEAREST_M)
        scale = camera.focal_px / z
        drop = camera.height_m - self.road.vertical_curvature_per_m / 2 * z * z - y_m
        rows = camera.horizon_row_px + drop * scale
        cols = camera.centre_col_px + x_m * scale
        points = np.empty((*np.broadcast_shapes(np.shape(cols), np.shape(rows)), 2))
        points[..., 0], points[..., 1] = cols, rows
        return points

    def along_road(self, offsets_m, heights_m, distances_m) -> np.ndarray:
        """Like project, for points given by their offset from the camera's foot along the road."""
        z = np.maximum(distances_m, NEAREST_M)
        return self.project(self.road.lateral_m(z) + offsets_m, heights_m, z)
