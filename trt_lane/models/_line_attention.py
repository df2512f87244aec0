"""LaneATT's network: features along anchor lines, and attention between the lines.

Structure, key names and order of operations follow lucastabelini/LaneATT, commit 2f8583b,
lib/models/laneatt.py.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from trt_lane.models._line_anchors import LineAnchors

CHANNELS = 64  # of the features that a line collects on every row
OFFSETS = 72


class LaneATT(nn.Module):
    """Line-anchor detector with attention between the lines.

    Args:
        features: (N, 3, H, W) -> (N, C, h, w).
        channels: C.
        stride: of `features`; lines cross H // stride rows of its map.
        input_hw: H, W.
        candidates: lines to choose the anchors from.
        count: anchors A. Until `choose` is called they are spread evenly over the candidates.
    """

    def __init__(
        self,
        features: nn.Module,
        channels: int,
        stride: int,
        input_hw: tuple[int, int],
        candidates: LineAnchors,
        count: int,
    ) -> None:
        super().__init__()
        self.map_hw = (input_hw[0] // stride, input_hw[1] // stride)
        self.stride = stride
        self.width = input_hw[1]
        self.candidates = candidates
        self.count = count
        self.line_features = CHANNELS * self.map_hw[0]
        self.feature_extractor = features
        self.conv1 = nn.Conv2d(channels, CHANNELS, 1)
        self.cls_layer = nn.Linear(2 * self.line_features, 2)
        self.reg_layer = nn.Linear(2 * self.line_features, 1 + OFFSETS)
        self.attention_layer = nn.Linear(self.line_features, count - 1)
        for layer in (self.conv1, self.cls_layer, self.reg_layer, self.attention_layer):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)
        # Not in the state dict: the official one has no anchors.
        self.register_buffer("extents", torch.zeros(count, 3), persistent=False)
        self.register_buffer("xs", torch.zeros(count, OFFSETS), persistent=False)
        self.register_buffer("is_length", torch.tensor([0.0, 0.0, 1.0]), persistent=False)
        cells = torch.zeros(count * self.map_hw[0], dtype=torch.int64)
        self.register_buffer("cells", cells, persistent=False)
        self.choose(np.linspace(0, len(candidates) - 1, count).round().astype(np.int64))

    def choose(self, order: np.ndarray) -> None:
        """Take these candidates, int64 (A,), as anchors, in this order."""
        anchors = self.candidates.chosen(order)
        self.order = torch.from_numpy(np.array(order, np.int64))
        self.extents.copy_(torch.from_numpy(anchors.extents()))
        self.xs.copy_(torch.from_numpy(anchors.xs(OFFSETS, self.width)))
        cells = anchors.cells(self.map_hw, self.stride).reshape(-1)
        self.cells.copy_(torch.from_numpy(cells))

    def beyond_checkpoint(self) -> dict[str, Tensor]:
        """Which anchors: with others the same weights are another network."""
        return {"anchors": self.order}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> cls (N, A, 2), extent (N, A, 3), xs (N, A, S)."""
        lines = self.collect(self.conv1(self.feature_extractor(x)))  # (N * A, D)
        attention = self.attend(lines)  # (N, A, A)
        context = attention @ lines.reshape(-1, self.count, self.line_features)
        joined = torch.cat([context.reshape(-1, self.line_features), lines], dim=1)
        reg = self.reg_layer(joined).reshape(-1, self.count, 1 + OFFSETS)
        return {
            "cls": self.cls_layer(joined).reshape(-1, self.count, 2),
            "extent": reg[:, :, :1] * self.is_length + self.extents,
            "xs": reg[:, :, 1:] + self.xs,
        }

    def collect(self, features: Tensor) -> Tensor:
        """Features (N, C, h, w) along every line, zero outside the map: (N * A, C * h)."""
        # The stride's remainder gives the trunk one more row, which no line crosses.
        cells = features[:, :, : self.map_hw[0], : self.map_hw[1]].flatten(2)
        # One zero after the last cell stands for all outside it: a gather with constant indices.
        cells = torch.cat([cells, cells[:, :, :1] * 0], dim=2).index_select(2, self.cells)
        cells = cells.reshape(-1, CHANNELS, self.count, self.map_hw[0])
        return cells.permute(0, 2, 1, 3).reshape(-1, self.line_features)

    def attend(self, lines: Tensor) -> Tensor:
        """Weights of the other lines for each line, zero for itself: (N, A, A) from (N * A, D)."""
        weights = self.attention_layer(lines).softmax(dim=1)  # (N * A, A - 1)
        # The diagonal of a flat A x A matrix is its first and then every (A + 1)th entry, so rows
        # of A entries, a zero after each and one before all put every weight into its place.
        weights = weights.reshape(-1, self.count - 1, self.count)
        zeros = weights[:, :, :1] * 0
        weights = torch.cat([weights, zeros], dim=2).flatten(1)
        weights = torch.cat([zeros[:, 0], weights], dim=1)
        return weights.reshape(-1, self.count, self.count)
