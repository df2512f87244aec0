"""In the manner of BézierLaneNet's inference in voldemortX/pytorch-auto-drive."""

from __future__ import annotations

from math import comb

import numpy as np
import torch
from torch.nn.functional import max_pool1d

from trt_lane.decoders.bezier_curve import BezierCurve


def lanes(decoder: BezierCurve, logits: np.ndarray, curves: np.ndarray) -> list[np.ndarray]:
    """Local maxima by max pooling in torch, then each curve sampled and read row by row."""
    chance = torch.sigmoid(torch.from_numpy(np.asarray(logits, np.float32)))
    chosen = chance > decoder.threshold
    if decoder.window:
        _, places = max_pool1d(
            chance[None, None], decoder.window, 1, decoder.window // 2, return_indices=True
        )
        chosen &= places[0, 0] == torch.arange(len(chance))
    indices = chosen.nonzero().squeeze(1).tolist()
    while decoder.max_lanes and len(indices) > decoder.max_lanes:
        indices.remove(min(indices, key=lambda i: float(chance[i])))
    t = torch.linspace(0, 1, decoder.samples, dtype=torch.float64)
    weights = torch.stack([comb(3, k) * t**k * (1 - t) ** (3 - k) for k in range(4)], dim=1)
    height, width = decoder.frame_hw
    found = []
    for index in indices:
        curve = (weights @ torch.from_numpy(curves[index].astype(np.float64))).numpy()
        points = []
        if not decoder.rows_px:
            points = [(x * width, y * height) for x, y in curve]
        for row in sorted(decoder.rows_px, reverse=True):
            apart = np.abs(curve[:, 1] - row / height)
            nearest = int(np.argmin(apart))
            x = curve[nearest, 0]
            if apart[nearest] <= decoder.row_tolerance_px / height and 0 <= x <= 1:
                points.append((x * width, row))
        if points:
            found.append(np.array(points))
    return found
