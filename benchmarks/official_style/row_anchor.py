"""In the manner of demo.py in cfzd/Ultra-Fast-Lane-Detection (353df10)."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from trt_lane.decoders.row_anchor import RowAnchor


def lanes(decoder: RowAnchor, logits: np.ndarray) -> list[np.ndarray]:
    """Flip the rows, expectation over cells, then a loop over lanes and rows."""
    flipped = logits[:, ::-1, :]
    chance = softmax(flipped[:-1], axis=0)
    cells = (np.arange(decoder.cells) + 1).reshape(-1, 1, 1)
    place = np.sum(chance * cells, axis=0)
    place[np.argmax(flipped, axis=0) == decoder.cells] = 0
    found = []
    for lane in range(place.shape[1]):
        if np.sum(place[:, lane] != 0) < decoder.min_points:
            continue
        points = []
        for row in range(place.shape[0]):
            if place[row, lane] > 0:
                x = (place[row, lane] - 1 + decoder.cell_offset) * decoder.cell_px
                y = decoder.rows_px[len(decoder.rows_px) - 1 - row]
                points.append((x + decoder.x_offset_px, y))
        found.append(np.array(points))
    return found
