"""In the manner of LaneATT's decode and proposals_to_pred (lucastabelini/LaneATT, 2f8583b).

The NMS is a compiled kernel there; ours in numpy stands for it.
"""

from __future__ import annotations

import numpy as np
import torch

from trt_lane.decoders._lane_nms import lane_nms
from trt_lane.decoders.line_anchor import LineAnchor


def lanes(
    decoder: LineAnchor, cls: np.ndarray, extent: np.ndarray, xs: np.ndarray
) -> list[np.ndarray]:
    """Softmax in torch, NMS, then one lane after the other cut, extended and turned into points."""
    scores = torch.softmax(torch.from_numpy(np.asarray(cls, np.float32)), dim=1)[:, 1]
    above = scores >= decoder.threshold if decoder.inclusive else scores > decoder.threshold
    chosen = above.nonzero().squeeze(1).numpy()
    if not len(chosen):
        return []
    lines = np.concatenate(
        [
            cls[chosen],
            extent[chosen, :2],
            extent[chosen, -1:] * np.float32(decoder.length_strips),
            xs[chosen] * np.float32(decoder.x_px),
        ],
        axis=1,
    )
    chosen = chosen[lane_nms(lines, scores.numpy()[chosen], decoder.distance_px, decoder.max_lanes)]
    rows = torch.linspace(1, 0, decoder.offsets, dtype=torch.float64)
    found = []
    for index in chosen:
        lane = torch.from_numpy(np.asarray(xs[index], np.float32)) / decoder.x_full
        strips = decoder.offsets - 1
        start = min(max(0, int(round(float(extent[index, 0]) * strips))), strips)  # noqa: RUF046
        length = int(round(float(extent[index, -1]) * decoder.length_strips))  # noqa: RUF046
        end = min(start + length - 1, strips)
        lane[end + 1 :] = -1
        # Going down from the start, what lies inside the image belongs to the lane.
        outside = ~((lane[:start] >= 0) & (lane[:start] <= 1)).numpy()[::-1]
        lane[:start][torch.from_numpy(outside.cumsum()[::-1] > 0)] = -1
        kept = lane >= 0
        x = lane[kept].double() * decoder.frame_hw[1]
        height = decoder.frame_hw[0] - decoder.crop_top
        y = rows[kept] * height + decoder.crop_top
        points = torch.stack((x, y), dim=1)
        if len(points) > 1:
            found.append(points.numpy())
    return found
