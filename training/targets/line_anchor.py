"""Line anchors: which lines are near a lane, and how each of those gets onto it.

Matching, losses and weights are those of lucastabelini/LaneATT, commit 2f8583b
(lib/models/matching.py, lib/models/laneatt.py: loss, lib/focal_loss.py): lines nearer than t_pos to
a lane are positive, those farther than t_neg from all are negative; focal loss for all of them,
smooth L1 of length and x for the positive ones. Our reading: the distances are wider, because a
demo's lines are a quarter as many; the line nearest to a lane is always positive; and x is learnt
below a line's start, too, where the decoder extends it down to the frame's edge.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.recipe import TrainingRecipe
from trt_lane.decoders.line_anchor import LineAnchor
from trt_lane.errors import TrtLaneError
from trt_lane.model import LaneModel

RECIPE = TrainingRecipe(frames=8_192, minutes=20, validations=4, learning_rate=1e-3, trunk="ufld")

# Shares of the frame's width; officially 15 and 20 px of 640. The demo's lines then are 4 per lane.
POSITIVE_SHARE, NEGATIVE_SHARE = 25 / 640, 35 / 640
FOCAL_WEIGHT, FOCAL_ALPHA, FOCAL_POWER = 10.0, 0.25, 2
# How far outside the frame x is followed, as a share of its width: far enough to be outside.
MARGIN_SHARE = 0.1


def targets(model: LaneModel, lanes: np.ndarray) -> dict[str, np.ndarray]:
    """What every line should be.

    Returns:
        "lane": float32 (A,), 1 for a positive line, 0 for a negative one, NaN for one in between;
        "length": float32 (A,) in units of the extent head, 0 unless positive;
        "xs": float32 (A, S) in units of the xs head, NaN where nothing is to be learnt.
    """
    decoder = model.decoder
    starts, anchors = _anchors(model)
    wanted, first, last = _at_offsets(decoder, lanes)  # (L, S), (L,), (L,)
    label = np.zeros(decoder.anchors, np.float32)
    length = np.zeros(decoder.anchors, np.float32)
    xs = np.full((decoder.anchors, decoder.offsets), np.nan, np.float32)
    if not len(wanted):
        return {"lane": label, "length": length, "xs": xs}

    distance = _distances(anchors, starts, wanted, first, last)  # (A, L)
    label[distance.min(axis=1) <= NEGATIVE_SHARE * decoder.x_full] = np.nan
    label[distance.min(axis=1) < POSITIVE_SHARE * decoder.x_full] = 1
    lane_of = distance.argmin(axis=1)
    for lane in range(len(wanted)):
        nearest = distance[:, lane].argmin()
        if np.isfinite(distance[nearest, lane]):
            label[nearest], lane_of[nearest] = 1, lane
    positive = np.flatnonzero(label == 1)
    ends = last[lane_of[positive]]
    length[positive] = (ends - starts[positive] + 1) / decoder.length_strips
    reached = np.arange(decoder.offsets) <= ends[:, None]
    xs[positive] = np.where(reached, wanted[lane_of[positive]], np.nan)
    return {"lane": label, "length": length, "xs": xs}


def loss(model: LaneModel, heads: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Focal loss per positive line plus smooth L1 of the positive lines' numbers.

    Both are means over the batch; officially they are of each frame first.
    """
    label = targets["lane"]  # (N, A)
    positive = label == 1
    # log p of the class that is right; two classes need one difference only.
    margin = heads["cls"][..., 1] - heads["cls"][..., 0]
    log_right = F.logsigmoid(torch.where(positive, margin, -margin))
    focal = -FOCAL_ALPHA * (1 - log_right.exp()) ** FOCAL_POWER * log_right
    focal = torch.where(label.isnan(), 0, focal).sum() / positive.sum().clamp(min=1)

    wanted = torch.cat([targets["length"][positive][:, None], targets["xs"][positive]], dim=1)
    found = torch.cat([heads["extent"][..., -1:][positive], heads["xs"][positive]], dim=1)
    taught = ~wanted.isnan()  # (B, 1 + S)
    apart = F.smooth_l1_loss(found, torch.where(taught, wanted, 0), reduction="none")
    place = torch.where(taught, apart, 0).sum() / taught.sum().clamp(min=1)
    return FOCAL_WEIGHT * focal + place


def _at_offsets(
    decoder: LineAnchor, lanes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lanes that reach two offsets or more, in units of the xs head.

    Below its lowest point a lane goes straight on, to at most MARGIN_SHARE outside the frame.

    Returns:
        x at every offset (L, S); the first and last offset of each lane, both included, int64 (L,).
    """
    rows = np.linspace(decoder.frame_hw[0], decoder.crop_top, decoder.offsets)
    kept, first, last = [np.empty((0, decoder.offsets))], [], []
    for points in lanes:
        lane = points[np.isfinite(points[:, 0])]
        lane = lane[np.argsort(lane[:, 1], kind="stable")].astype(np.float64)
        if len(lane) < 2:
            continue
        inside = np.flatnonzero((rows >= lane[0, 1]) & (rows <= lane[-1, 1]))
        if len(inside) < 2:
            continue
        x = np.interp(rows, lane[:, 1], lane[:, 0])
        (x0, y0), (x1, y1) = lane[-2:]
        below = rows > y1
        x[below] = x1 + (x1 - x0) / max(y1 - y0, 1e-6) * (rows[below] - y1)
        share = np.clip(x / decoder.frame_hw[1], -MARGIN_SHARE, 1 + MARGIN_SHARE)
        kept.append(share[None] * decoder.x_full)
        first.append(inside[0])
        last.append(inside[-1])
    return np.concatenate(kept), np.array(first, np.int64), np.array(last, np.int64)


def _distances(
    anchors: np.ndarray,
    starts: np.ndarray,
    wanted: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
) -> np.ndarray:
    """Mean |x| distance (A, L) over the offsets that line and lane share; infinite without any."""
    offsets = np.arange(wanted.shape[1])
    distance = np.empty((len(anchors), len(wanted)))
    for lane, (x, begin, end) in enumerate(zip(wanted, first, last, strict=True)):
        shared = (offsets >= np.maximum(starts, begin)[:, None]) & (offsets <= end)  # (A, S)
        count = shared.sum(axis=1)
        total = (np.abs(anchors - x.astype(np.float32)) * shared).sum(axis=1)
        distance[:, lane] = np.where(count > 0, total / np.maximum(count, 1), np.inf)
    return distance


@cache
def _anchors(model: LaneModel) -> tuple[np.ndarray, np.ndarray]:
    """First offset (A,) and x (A, S) of the lines before the network moves them."""
    buffers = dict(model.build().named_buffers())
    if not {"extents", "xs"} <= buffers.keys():
        raise TrtLaneError(
            f"the lines of {model.name} are learnt; expected a network with fixed lines, in its "
            "buffers 'extents' and 'xs'; train another model, or "
            "extend training/targets/line_anchor.py"
        )
    strips = model.decoder.offsets - 1
    starts = np.round(buffers["extents"][:, 0].numpy() * strips).astype(np.int64)
    return starts, buffers["xs"].numpy()
