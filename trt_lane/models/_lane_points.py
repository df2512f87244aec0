"""GANet's lane-aware feature aggregator: a deformable 1-D convolution in exportable operators.

Key names and structure follow Wolfwjs/GANet, commit 8685a61 (dense_heads/lanepoints_conv.py).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trt_lane.models._attention_fpn import ConvUnit


class LanePoints(nn.Module):
    """Lane-aware feature aggregator: every cell gathers features at points it predicts itself.

    The official layer is a deformable 1xP convolution whose offsets are taken relative to its own
    taps, so that tap p of cell (h, w) reads at (h + y_p, w + x_p). Bilinear sampling with zeros
    outside is GridSample's; the P samples of a cell lie side by side, and a 1xP convolution of
    stride P applies the official weight to them as it stands.
    """

    def __init__(self, channels: int, features: int, points: int, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        pairs = list(pairwise((channels, features, features, features)))
        self.cls_convs = nn.Sequential(*(ConvUnit(a, b, 3, relu=True) for a, b in pairs))
        self.reg_convs = nn.Sequential(*(ConvUnit(a, b, 3, relu=True) for a, b in pairs))
        self.reppoints_pts_init_conv = nn.Conv2d(features, channels, 3, padding=1)
        self.reppoints_pts_init_out = nn.Conv2d(channels, 2 * points, 1)
        self.reppoints_cls_conv = nn.Conv2d(
            features, channels, (1, points), stride=(1, points), bias=False
        )
        self.relu = nn.ReLU(inplace=False)
        height, width = grid_hw
        self.columns_hw = (height, width * points)
        # GridSample's coordinates with aligned corners: cell i of n is at 2 i / (n - 1) - 1.
        self.cell_x, self.cell_y = 2 / (width - 1), 2 / (height - 1)
        x = torch.arange(width).mul(self.cell_x).sub(1).reshape(1, 1, 1, width)
        y = torch.arange(height).mul(self.cell_y).sub(1).reshape(1, 1, height, 1)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)

    def forward(self, level: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        features = self.cls_convs(level)
        points = self.reppoints_pts_init_conv(self.reg_convs(level))
        points = self.reppoints_pts_init_out(self.relu(points))  # (N, y and x per point, H, W)
        x = points[:, 1::2] * self.cell_x + self.x
        y = points[:, 0::2] * self.cell_y + self.y
        grid = torch.stack((x, y), -1).permute(0, 2, 3, 1, 4).reshape(-1, *self.columns_hw, 2)
        columns = F.grid_sample(
            features, grid, mode="bilinear", padding_mode="zeros", align_corners=True
        )  # (N, features, H, W * P)
        return self.relu(self.reppoints_cls_conv(columns))
