"""In the manner of LaneATT and CLRNet, from heads to their Lane objects.

LaneATT: nms, decode and proposals_to_pred of lib/models/laneatt.py, Lane of lib/lane.py
(lucastabelini/LaneATT, 2f8583b). CLRNet: get_lanes and predictions_to_pred of
clrnet/models/heads/clr_head.py, Lane of clrnet/utils/lane.py (Turoad/CLRNet, 7269e9d).

The NMS is a CUDA kernel in both, with nothing for a CPU; ours in numpy stands for it. What only
their evaluations and viewers do, a Lane's spline read at an image's rows, is left out.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import InterpolatedUnivariateSpline

from trt_lane.decoders._lane_nms import lane_nms
from trt_lane.decoders.line_anchor import LineAnchor

_ABSENT = -2
_MARGIN = 0.01


class _Lane:
    """A spline through points (P, 2) in shares of the frame, from the top downwards."""

    def __init__(self, points: np.ndarray, metadata: dict[str, torch.Tensor]) -> None:
        x, y = points[:, 0], points[:, 1]
        self.points, self.metadata = points, metadata
        self.function = InterpolatedUnivariateSpline(y, x, k=min(3, len(points) - 1))
        self.min_y, self.max_y = y.min() - _MARGIN, y.max() + _MARGIN


def lanes(
    decoder: LineAnchor, cls: np.ndarray, extent: np.ndarray, xs: np.ndarray
) -> list[np.ndarray]:
    """Softmax and threshold in torch, NMS, then one lane after the other made a spline."""
    heads = [torch.from_numpy(np.asarray(head, np.float32)) for head in (cls, extent, xs)]
    scores = torch.softmax(heads[0], dim=1)[:, 1]
    above = scores >= decoder.threshold if decoder.inclusive else scores > decoder.threshold
    # The official networks hand over their heads joined: one of these for the three.
    proposals, scores = torch.cat([head[above] for head in heads], dim=1), scores[above]
    if not len(proposals):
        return []
    proposals = proposals[_kept(decoder, proposals, scores)]
    length = decoder.extent_channels + 1  # behind the logits, the last of the extent
    proposals[:, length] = torch.round(proposals[:, length] * decoder.length_strips)
    rows = torch.linspace(1, 0, decoder.offsets, dtype=torch.float64)
    made = [_lane(decoder, proposal, length, rows) for proposal in proposals]
    return [lane.points * decoder.frame_hw[::-1] for lane in made if lane is not None]


def _kept(decoder: LineAnchor, proposals: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Indices of the lines that the NMS keeps; CLRNet's have units that it does not take."""
    lines = proposals
    if (decoder.length_strips, decoder.x_px) != (1, 1):
        copy = proposals.detach().clone()
        lines = torch.cat([copy[..., :4], copy[..., decoder.extent_channels + 1 :]], dim=-1)
        lines[..., 4] = lines[..., 4] * decoder.length_strips
        lines[..., 5:] = lines[..., 5:] * decoder.x_px
    kept = lane_nms(lines.numpy(), scores.numpy(), decoder.distance_px, decoder.max_lanes)
    return torch.from_numpy(kept)


def _lane(
    decoder: LineAnchor, proposal: torch.Tensor, length: int, rows: torch.Tensor
) -> _Lane | None:
    """Cut by its length, and extended downwards while inside the image."""
    strips = decoder.offsets - 1
    x = proposal[length + 1 :]
    x = x if decoder.x_full == 1 else x / decoder.x_full
    start = min(max(0, int(round(proposal[2].item() * strips))), strips)  # noqa: RUF046
    end = min(start + int(round(proposal[length].item())) - 1, strips)  # noqa: RUF046
    inside = (x[:start] >= 0.0) & (x[:start] <= 1.0)
    outside = ~(inside.numpy()[::-1].cumprod()[::-1].astype(bool))
    x[end + 1 :] = _ABSENT
    x[:start][outside] = _ABSENT
    y = rows[x >= 0].flip(0)
    x = x[x >= 0].flip(0).double()
    if decoder.crop_top:
        height = decoder.frame_hw[0]
        y = (y * (height - decoder.crop_top) + decoder.crop_top) / height
    if len(x) <= 1:
        return None
    points = torch.stack((x.reshape(-1, 1), y.reshape(-1, 1)), dim=1).squeeze(2)
    metadata = {"start_x": proposal[3], "start_y": proposal[2], "conf": proposal[1]}
    return _Lane(points.numpy(), metadata)
