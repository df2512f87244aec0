"""Key points: a heat map with one point per row of every lane, and each point's way to the root.

Losses and weights are those of Wolfwjs/GANet, commit 8685a61 (losses/ganetloss.py,
pipelines/lane_formating.py, configs/culane/final_exp_res18_s8.py): the focal loss of CornerNet on
the heat map, L1 on both offsets. The official auxiliary loss, on the points that the aggregator
gathers from, needs numbers that are no output of the network, and is left out. Our reading: a key
point and its Gaussian are of one row, because the decoder takes the peaks of each row. Officially
they are 45 per lane and round, and where a lane lies flat on a coarse map the round Gaussian of a
row's point is a peak above the threshold in the next row, columns away from the lane.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.recipe import TrainingRecipe
from trt_lane.decoders.keypoint_grouping import HEAT_LIMIT, KeypointGrouping
from trt_lane.model import LaneModel

# Rendering and validation come on top.
RECIPE = TrainingRecipe(frames=8_192, minutes=20, validations=4, learning_rate=1e-3, trunk="ufld")

ROOT_WEIGHT = 0.5
WITHIN_CELL_WEIGHT = 1.0
RADIUS = 2  # of a key point's Gaussian, in cells
SIGMA = (2 * RADIUS + 1) / 6
FOCAL_POWER, NEAR_POWER = 2, 4


def targets(model: LaneModel, lanes: np.ndarray) -> dict[str, np.ndarray]:
    """Heat and offsets of every lane's key points.

    Returns:
        "heat": float32 (1, h, w), 1 at key points and a Gaussian to both sides of them;
        "to_root", "within_cell": float32 (2, h, w), the offsets of the decoder within RADIUS
            columns of a key point, else NaN.
    """
    height, width = model.decoder.heat_hw
    heat = np.zeros((height, width), np.float32)
    to_root = np.full((2, height, width), np.nan, np.float32)
    within_cell = to_root.copy()
    points, roots = _key_points(model.decoder, lanes)
    columns, rows = np.floor(points).astype(np.int64).T
    # A peak that comes out some columns off still leads to the same point and root. The key points
    # themselves come last: they are right where lanes meet.
    for beside in sorted(range(-RADIUS, RADIUS + 1), key=lambda column: -abs(column)):
        at = columns + beside
        inside = (at >= 0) & (at < width)
        place = np.stack([at, rows], axis=1)[inside]
        index = (rows[inside], at[inside])
        within_cell[(slice(None), *index)] = (points[inside] - place).T
        to_root[(slice(None), *index)] = (roots[inside] - place).T
        np.maximum.at(heat, index, np.exp(-(beside**2) / (2 * SIGMA**2)).astype(np.float32))
    return {"heat": heat[None], "to_root": to_root, "within_cell": within_cell}


def loss(model: LaneModel, heads: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Focal loss per key point plus the mean L1 of both offsets, in cells."""
    heat = targets["heat"]  # (N, 1, h, w)
    probability = heads["kpts_hm_logits"].sigmoid().clamp(HEAT_LIMIT, 1 - HEAT_LIMIT)
    keypoint = heat == 1
    # Written for both cases at once: the probability of being wrong.
    wrong = torch.where(keypoint, 1 - probability, probability)
    focal = -torch.log1p(-wrong) * wrong**FOCAL_POWER
    # Cells near a key point may be hot, the nearer the more.
    focal = focal * torch.where(keypoint, 1.0, (1 - heat) ** NEAR_POWER)
    points = focal.sum() / keypoint.sum().clamp(min=1)
    root = _distance(heads["pts_offset"], targets["to_root"])
    within_cell = _distance(heads["int_offset"], targets["within_cell"])
    return points + ROOT_WEIGHT * root + WITHIN_CELL_WEIGHT * within_cell


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean L1 over the cells that have a target."""
    taught = ~wanted.isnan()
    apart = F.l1_loss(found, torch.where(taught, wanted, 0), reduction="none")
    return torch.where(taught, apart, 0).sum() / taught.sum().clamp(min=1)


def _key_points(decoder: KeypointGrouping, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Key points (K, 2) of all lanes, x and y in cells, and the root (K, 2) of each one's lane.

    A lane has one in each row that it crosses, in the row's middle or where the lane ends; its root
    is its lowest point. Where lanes meet, the ego lines in the middle come last.
    """
    height, width = decoder.heat_hw
    frame_height, frame_width = decoder.frame_hw
    # The decoder has no half pixels either.
    scale = np.array([width / frame_width, height / (frame_height - decoder.crop_top)])
    # The lowest row of the frame is the end of the last cell.
    largest = np.nextafter(np.float64([width, height]), 0) - 1e-3
    points, roots = [np.empty((0, 2))], [np.empty((0, 2))]
    for slot in sorted(range(len(lanes)), key=lambda s: -abs(2 * s + 1 - len(lanes))):
        lane = lanes[slot][np.isfinite(lanes[slot][:, 0])]
        cells = (lane - (0, decoder.crop_top)) * scale
        cells = cells[np.argsort(cells[:, 1], kind="stable")]
        if len(cells) < 2 or cells[-1, 1] <= 0:
            continue
        top, bottom = np.clip(cells[[0, -1], 1], 0, largest[1])
        rows = np.arange(np.floor(top), np.floor(bottom) + 1)
        y = np.clip(rows + 0.5, top, bottom)
        x = np.clip(np.interp(y, cells[:, 1], cells[:, 0]), 0, largest[0])
        root = (np.clip(np.interp(bottom, cells[:, 1], cells[:, 0]), 0, largest[0]), bottom)
        points.append(np.stack([x, y], axis=1))
        roots.append(np.tile(root, (len(y), 1)))
    return np.concatenate(points), np.concatenate(roots)
