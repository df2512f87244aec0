"""In the manner of prob_to_lines in voldemortX/pytorch-auto-drive and SCNN's getLane."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from trt_lane.decoders.segmentation import Segmentation

_FEWEST_POINTS = 2


def lanes(decoder: Segmentation, out: np.ndarray, lane: np.ndarray) -> list[np.ndarray]:
    """Resize and softmax in torch, then per lane a blurred map read row by row."""
    maps = torch.from_numpy(np.asarray(out, np.float32))[None]
    maps = interpolate(maps, size=decoder.input_hw, mode="bilinear", align_corners=True)
    chance = torch.softmax(maps, dim=1)[0].numpy()
    existence = torch.sigmoid(torch.from_numpy(np.asarray(lane, np.float32))).tolist()
    existing = [i for i, p in enumerate(existence) if p > decoder.existence_threshold]
    while decoder.max_lanes and len(existing) > decoder.max_lanes:
        existing.remove(min(existing, key=lambda i: existence[i]))
    height, width = decoder.input_hw
    frame_height, frame_width = decoder.frame_hw
    found = []
    for i in existing:
        side = (decoder.blur_px, decoder.blur_px)
        blurred = cv2.blur(chance[i + 1], side, borderType=cv2.BORDER_REPLICATE)
        points = []
        for k in range(decoder.first_gap, decoder.first_gap + decoder.points):
            row = int(height - k * decoder.gap_px / frame_height * height - decoder.lift_px)
            if row < 0:
                break
            column = int(np.argmax(blurred[row]))
            x = column / width * frame_width
            if blurred[row, column] > decoder.threshold and x >= 1:
                points.append((x, frame_height - k * decoder.gap_px - decoder.lift_px))
        if len(points) >= _FEWEST_POINTS:
            found.append(np.array(points))
    return found
