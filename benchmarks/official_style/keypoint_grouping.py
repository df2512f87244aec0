"""In the manner of GANet's ktdet_decode_fast and group_points_fast (Wolfwjs/GANet, 8685a61)."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from trt_lane.decoders.keypoint_grouping import HEAT_LIMIT, KeypointGrouping


def lanes(
    decoder: KeypointGrouping,
    kpts_hm_logits: np.ndarray,
    pts_offset: np.ndarray,
    int_offset: np.ndarray,
    cpts_hm_logits: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Peaks by max pooling in torch, roots clustered and points grouped in loops."""
    heat = torch.sigmoid(torch.from_numpy(np.asarray(kpts_hm_logits, np.float32)))
    heat = torch.clamp(heat, min=HEAT_LIMIT, max=1 - HEAT_LIMIT)
    peaks = max_pool2d(heat[None], (1, 3), stride=1, padding=(0, 1))[0]
    heat = (heat * (peaks == heat)).numpy()[0]
    rows, columns = np.where(heat > np.float32(decoder.keypoint_threshold))
    centres = _clusters(decoder, heat, pts_offset[1])
    groups: list[list[tuple[float, float]]] = [[] for _ in centres]
    for row, column in zip(rows, columns, strict=True):
        root = (column + pts_offset[0, row, column], row + pts_offset[1, row, column])
        for number, centre in enumerate(centres):
            if np.hypot(root[0] - centre[0], root[1] - centre[1]) <= decoder.root_distance:
                x = column + int_offset[0, row, column]
                y = row + int_offset[1, row, column]
                groups[number].append((x, y))
                break
    return [_frame_points(decoder, g) for g in groups if len(g) >= max(decoder.min_points, 2)]


def _clusters(
    decoder: KeypointGrouping, heat: np.ndarray, down: np.ndarray
) -> list[tuple[float, float]]:
    chosen = (heat > np.float32(decoder.keypoint_threshold)) & (down < decoder.root_rows)
    columns, rows = np.nonzero(chosen.T)
    clusters: list[list[tuple[int, int]]] = []
    for column, row in zip(columns.tolist(), rows.tolist(), strict=True):
        for cluster in clusters:
            if any(np.hypot(column - x, row - y) <= decoder.root_distance for x, y in cluster):
                cluster.append((column, row))
                break
        else:
            clusters.append([(column, row)])
    return [(sum(x for x, _ in c) // len(c), sum(y for _, y in c) // len(c)) for c in clusters]


def _frame_points(decoder: KeypointGrouping, cells: list[tuple[float, float]]) -> np.ndarray:
    stride = decoder.input_hw[0] / decoder.heat_hw[0]
    scale_x = decoder.frame_hw[1] / decoder.input_hw[1]
    scale_y = (decoder.frame_hw[0] - decoder.crop_top) / decoder.input_hw[0]
    points = []
    for x, y in reversed(cells):
        pixel = (x * stride * scale_x, y * stride * scale_y + decoder.crop_top)
        points.append(tuple(map(int, pixel)) if decoder.whole_pixels else pixel)
    return np.array(points, np.float64)
