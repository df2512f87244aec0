"""Segmentation: a map with one class per lane slot, and which lanes are there.

Losses are those of voldemortX/pytorch-auto-drive, commit 137e63a
(utils/losses/lane_seg_loss.py, configs/lane_detection/baseline/*_culane.py): cross-entropy whose
background weighs less, plus the existence of each lane. How lanes are drawn is our reading of
SCNN's labels (arXiv 1712.06080), which are lines 16 px wide on CULane's frames.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.recipe import TrainingRecipe
from trt_lane.decoders.segmentation import Segmentation
from trt_lane.errors import TrtLaneError
from trt_lane.model import LaneModel

# Rendering and validation come on top.
RECIPE = TrainingRecipe(frames=8_192, minutes=20, validations=4, learning_rate=3e-3)

# Officially 0.4, over many epochs. Measured after 145 steps on 4 frames, by heart: with 0.4 few
# pixels exceed the decoder's threshold yet, F1 0 to 0.22 at three learning rates; with 0.1 F1 0.55.
# Lines that come out too wide do no harm, as the decoder takes their middle.
BACKGROUND_WEIGHT = 0.1
EXISTENCE_WEIGHT = 0.1
LINE_WIDTH_SHARE = 16 / 1640  # of the frame's width
SUBPIXEL_BITS = 6  # of cv2's fixed-point coordinates


def targets(model: LaneModel, lanes: np.ndarray) -> dict[str, np.ndarray]:
    """The lanes drawn where the decoder reads them.

    Returns:
        "classes": uint8 (h, w) at the network input's size, 0 background, else slot + 1;
        "existence": float32 (L,), 1 where there is a lane.
    """
    decoder = model.decoder
    if len(lanes) != decoder.lanes:
        raise TrtLaneError(
            f"{model.name} has {decoder.lanes} lanes; the synthetic roads label {len(lanes)} slots"
        )
    classes = np.zeros(decoder.input_hw, np.uint8)
    existence = np.zeros(decoder.lanes, np.float32)
    # Half the width on both sides of the middle: an odd number of pixels has one.
    thickness = 1 + 2 * int(LINE_WIDTH_SHARE * decoder.input_hw[1] / 2)
    present = [lane[np.isfinite(lane[:, 0])] for lane in lanes]
    # Where lanes meet, the ego lines in the middle are on top.
    for slot in sorted(range(len(lanes)), key=lambda s: -abs(2 * s + 1 - len(lanes))):
        if len(present[slot]) < 2:
            continue
        existence[slot] = 1
        points = np.round(_to_map(decoder, present[slot]) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.polylines(classes, [points], False, slot + 1, thickness, cv2.LINE_8, SUBPIXEL_BITS)
    return {"classes": classes, "existence": existence}


def loss(model: LaneModel, heads: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Weighted cross-entropy of the map at the input's size, plus that of the existence."""
    logits, classes = heads["out"], targets["classes"].long()  # (N, L + 1, h, w), (N, H, W)
    if logits.shape[2:] != classes.shape[1:]:
        logits = F.interpolate(logits, classes.shape[1:], mode="bilinear", align_corners=True)
    weight = torch.ones(logits.shape[1])
    weight[0] = BACKGROUND_WEIGHT
    pixels = F.cross_entropy(logits, classes, weight)
    existence = F.binary_cross_entropy_with_logits(heads["lane"], targets["existence"])
    return pixels + EXISTENCE_WEIGHT * existence


def _to_map(decoder: Segmentation, points: np.ndarray) -> np.ndarray:
    """Frame pixels (P, 2) to the map's pixels that the decoder reads them from.

    The decoder scales columns without their centres, reads rows `lift_px` map rows up and cuts the
    row down, half a row on average. Drawn there, the lanes come back where they were.
    """
    (height, width), (frame_height, frame_width) = decoder.input_hw, decoder.frame_hw
    x = points[:, 0] * width / frame_width
    y = (points[:, 1] + decoder.lift_px) * height / frame_height - decoder.lift_px - 0.5
    return np.stack([x, y], axis=1)
