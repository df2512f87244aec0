"""In the manner of LSTR's evaluation (liuruijin17/LSTR, db/tusimple.py and culane.py)."""

from __future__ import annotations

import numpy as np
import torch

from trt_lane.decoders.lstr_curve import LstrCurve


def lanes(decoder: LstrCurve, pred_logits: np.ndarray, pred_curves: np.ndarray) -> list[np.ndarray]:
    """Class by softmax in torch, then each curve evaluated row by row."""
    chance = torch.softmax(torch.from_numpy(np.asarray(pred_logits, np.float32)), dim=-1)
    labels = chance.argmax(dim=-1)
    height, width = decoder.frame_hw
    found = []
    for query, curve in enumerate(np.asarray(pred_curves, np.float64)):
        if labels[query] != decoder.lane_class:
            continue
        low, high = sorted(curve[:2])
        k, f, m, n, b, b2 = curve[2:]
        points = []
        for row in sorted(decoder.rows_px, reverse=True):
            y = row / height
            if y < low or (not decoder.to_bottom and y > high) or y == f:
                continue
            x = (k / (y - f) ** 2 + m / (y - f) + n + b * y - b2) * width
            if 0 <= x <= width - 1:
                points.append((x, row))
        if len(points) >= decoder.min_points:
            found.append(np.array(points))
    return found
