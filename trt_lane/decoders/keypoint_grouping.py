"""Key-point grouping: peaks of a heat map, joined by the lane root that each points to (GANet).

Decoding follows Wolfwjs/GANet, commit 8685a61 (ktdet_decode_fast in dense_heads/ganet_head.py,
group_points_fast in tools/ganet/post_process.py, adjust_result in tools/ganet/*/test_dataset.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_lane.lanes import LaneSet

HEAT_LIMIT = 1e-4  # the official heat map is clamped to [1e-4, 1 - 1e-4]


@dataclass(frozen=True)
class KeypointGrouping:
    """Numbers of a key-point head.

    A key point is a cell that is no less than its left and right neighbours and exceeds the
    threshold. Key points whose offset leads less than `root_rows` rows down are roots; roots join
    in clusters of neighbours, and every key point goes to the first cluster whose centre its own
    offset reaches.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        crop_top: rows cut off the top of the frame.
        input_hw: height and width of the network input, to which the rest of the frame is resized.
        heat_hw: height and width of the heat map.
        keypoint_threshold: probability that a key point exceeds.
        min_points: lanes of fewer points are dropped.
        root_distance: reach in cells, between roots of one cluster and from an offset to a centre.
        root_rows: offset in rows below which a key point is a root.
        whole_pixels: cut coordinates to whole frame pixels, as the official code does.
    """

    frame_hw: tuple[int, int]
    crop_top: int
    input_hw: tuple[int, int]
    heat_hw: tuple[int, int]
    keypoint_threshold: float
    min_points: int
    root_distance: float
    root_rows: float = 1.0
    whole_pixels: bool = True

    def __post_init__(self) -> None:
        if min(*self.frame_hw, *self.input_hw, *self.heat_hw, self.min_points) < 1:
            raise ValueError("frame_hw, input_hw, heat_hw and min_points must be at least 1")
        if not 0 <= self.crop_top < self.frame_hw[0]:
            raise ValueError(f"crop_top is {self.crop_top}; expected 0..{self.frame_hw[0] - 1}")
        if not 0 <= self.keypoint_threshold < 1:
            raise ValueError(f"threshold is {self.keypoint_threshold}; expected 0 to below 1")
        if not (
            self.root_distance >= 0 and np.isfinite([self.root_distance, self.root_rows]).all()
        ):
            raise ValueError("root_distance and root_rows must be finite, root_distance >= 0")

    def __call__(
        self,
        kpts_hm_logits: np.ndarray,
        pts_offset: np.ndarray,
        int_offset: np.ndarray,
        cpts_hm_logits: np.ndarray | None = None,
    ) -> LaneSet:
        """Lanes of one frame, from the leftmost root cluster to the rightmost.

        Args:
            kpts_hm_logits: (1, h, w) heat map before the sigmoid.
            pts_offset: (2, h, w) x and y in cells from a key point to its lane's root.
            int_offset: (2, h, w) x and y in cells from a cell's corner to the key point.
            cpts_hm_logits: (1, h, w), not used by the official decoding either.
        """
        logits = self._checked("kpts_hm_logits", kpts_hm_logits, 1)[0]
        to_root = self._checked("pts_offset", pts_offset, 2)
        within_cell = self._checked("int_offset", int_offset, 2)
        if cpts_hm_logits is not None:
            self._checked("cpts_hm_logits", cpts_hm_logits, 1)
        heat = heat_of(logits)
        keypoint = row_peaks(heat) & (heat > np.float32(self.keypoint_threshold))
        x, y = np.nonzero((keypoint & (to_root[1] < self.root_rows)).T)  # column by column
        centres = self._cluster_centres(np.stack([x, y], axis=1))
        rows, columns = np.nonzero(keypoint)
        cells = np.stack([columns, rows], axis=1).astype(np.float32)  # (P, 2)
        points = cells + within_cell[:, rows, columns].T
        roots = cells + to_root[:, rows, columns].T
        cluster = self._cluster_of(roots, centres)
        cluster[~np.isfinite(points).all(axis=1)] = -1
        # The official order, top row first, is turned: lanes go from the bottom upwards.
        members = [np.flatnonzero(cluster == i)[::-1] for i in range(len(centres))]
        members = [m for m in members if len(m) >= max(self.min_points, 2)]
        lanes = [self._to_frame(points[m]) for m in members]
        scores = [float(heat[rows[m], columns[m]].mean()) for m in members]
        return LaneSet.from_lanes(lanes, self.frame_hw, scores)

    def _checked(self, name: str, head: np.ndarray, channels: int) -> np.ndarray:
        head, expected = np.asarray(head, np.float32), (channels, *self.heat_hw)
        if head.shape != expected:
            raise ValueError(f"{name} has shape {head.shape}; expected {expected}")
        return head

    def _cluster_centres(self, roots: np.ndarray) -> np.ndarray:
        """Whole cells (C, 2): the mean, cut down, of each cluster of root cells (R, 2).

        A root joins the first cluster with a member in reach, and never makes two clusters one.
        """
        label = np.empty(len(roots), int)
        count = 0
        for i, root in enumerate(roots):
            apart = np.sqrt(((roots[:i] - root) ** 2).sum(axis=1))
            near = label[:i][apart <= self.root_distance]
            label[i] = near.min() if len(near) else count
            count = max(count, label[i] + 1)
        return np.array([roots[label == c].sum(0) // (label == c).sum() for c in range(count)])

    def _cluster_of(self, roots: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """For each root (P, 2) the first cluster whose centre is in reach, else -1."""
        if not len(centres):
            return np.full(len(roots), -1)
        with np.errstate(invalid="ignore", over="ignore"):
            gap = roots[:, None].astype(np.float64) - centres
            near = np.sqrt((gap**2).sum(axis=-1)) <= self.root_distance  # False where NaN
        return np.where(near.any(axis=1), near.argmax(axis=1), -1)

    def _to_frame(self, points: np.ndarray) -> np.ndarray:
        """Cells (P, 2) to frame pixels."""
        stride = self.input_hw[0] / self.heat_hw[0]
        scale_x = self.frame_hw[1] / self.input_hw[1]
        scale_y = (self.frame_hw[0] - self.crop_top) / self.input_hw[0]
        # float32 until the input's pixels and float64 after them, as the official numbers are.
        pixels = np.float64(points * np.float32(stride)) * (scale_x, scale_y) + (0, self.crop_top)
        return np.trunc(pixels) if self.whole_pixels else pixels


def heat_of(logits: np.ndarray) -> np.ndarray:
    """Probabilities float32, clamped as the official ones; 0 where a logit is not finite."""
    with np.errstate(over="ignore"):  # exp(89) is inf, and 1 / inf the right 0
        heat = np.clip(1 / (1 + np.exp(-logits)), HEAT_LIMIT, 1 - HEAT_LIMIT)
    return np.where(np.isfinite(logits), heat, np.float32(0))


def row_peaks(heat: np.ndarray) -> np.ndarray:
    """Whether a cell (h, w) is no less than its left and right neighbours."""
    padded = np.pad(heat, ((0, 0), (1, 1)))
    return (heat >= padded[:, :-2]) & (heat >= padded[:, 2:])


DECODER = KeypointGrouping
