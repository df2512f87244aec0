"""The neck that CondLaneNet and GANet share: attention on the coarsest stage, then a top-down FPN.

Key names follow mmcv's ConvModule and the official necks (aliyun/conditional-lane-detection
c57b242, mmdet/models/necks/trans_fpn.py; Wolfwjs/GANet 8685a61, mmdet/models/necks/dcn_fpn.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTENTION_RATIO = 4  # channels of values per channel of queries and keys
ATTENTION_LAYERS = 2
HEAT_MAP_BIAS = -2.19  # sigmoid gives 0.1: few cells are lane, and training starts there


class ConvUnit(nn.Module):
    """Convolution that keeps the size, then optionally batch norm and ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, norm: bool = False, relu: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not norm)
        self.bn = nn.BatchNorm2d(outputs) if norm else None
        self.relu = nn.ReLU(inplace=False) if relu else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H, W)."""
        x = self.conv(x)
        x = x if self.bn is None else self.bn(x)
        return x if self.relu is None else self.relu(x)


def branch(inputs: int, hidden: int, outputs: int, bias: float | None = None) -> nn.Sequential:
    """A dense head: 3x3 convolution, ReLU, 1x1 convolution; `bias` starts the last one."""
    layers = nn.Sequential(
        nn.Conv2d(inputs, hidden, 3, padding=1),
        nn.ReLU(inplace=False),
        nn.Conv2d(hidden, outputs, 1),
    )
    if bias is not None:
        nn.init.constant_(layers[-1].bias, bias)
    return layers


class AttentionLayer(nn.Module):
    """Self-attention between all cells of a (H, W) map, with a learnt share `gamma`."""

    def __init__(self, inputs: int, channels: int, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self.shape = (channels, *grid_hw)
        self.pre_conv = ConvUnit(inputs, channels, 3, norm=True, relu=True)
        self.query_conv = nn.Conv2d(channels, channels // ATTENTION_RATIO, 1)
        self.key_conv = nn.Conv2d(channels, channels // ATTENTION_RATIO, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.final_conv = ConvUnit(channels, channels, 3, norm=True, relu=True)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.register_buffer("position", sine_position(channels, grid_hw), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, channels, H, W)."""
        x = self.pre_conv(x) + self.position
        queries = self.query_conv(x).flatten(2).transpose(1, 2)  # (N, H * W, C / 4)
        keys = self.key_conv(x).flatten(2)
        values = self.value_conv(x).flatten(2)
        attention = torch.matmul(queries, keys).softmax(dim=-1)  # not scaled, as in the original
        seen = torch.matmul(values, attention.transpose(1, 2)).reshape(-1, *self.shape)
        return self.final_conv(self.gamma * seen + x)


class AttentionHead(nn.Module):
    """The attention layers one after the other."""

    def __init__(self, inputs: int, channels: int, grid_hw: tuple[int, int]) -> None:
        super().__init__()
        sizes = (inputs, *[channels] * ATTENTION_LAYERS)
        self.attn_layers = nn.Sequential(
            *(AttentionLayer(a, b, grid_hw) for a, b in pairwise(sizes))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, channels, H, W)."""
        return self.attn_layers(x)


class AttentionFPN(nn.Module):
    """Attention, lateral 1x1 convolutions and the top-down sum; subclasses add the output side.

    Args:
        inputs: channels of the trunk stages used, finest first; each has twice the stride of the
            one before it.
        attention: channels of the attention layers, which read the last stage.
        grid_hw: height and width of the last stage.
        outputs: channels of every level.
    """

    def __init__(
        self, inputs: Sequence[int], attention: int, grid_hw: tuple[int, int], outputs: int
    ) -> None:
        super().__init__()
        self.trans_head = AttentionHead(inputs[-1], attention, grid_hw)
        self.lateral_convs = nn.ModuleList(
            ConvUnit(channels, outputs, 1) for channels in (*inputs[:-1], attention)
        )

    def merge(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Levels (N, outputs, H, W) of the given stages, finest first."""
        features = (*features[:-1], self.trans_head(features[-1]))
        levels = [conv(f) for conv, f in zip(self.lateral_convs, features, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            coarse = F.interpolate(levels[i], scale_factor=2.0, mode="nearest")
            levels[i - 1] = levels[i - 1] + coarse
        return levels


def sine_position(channels: int, grid_hw: tuple[int, int]) -> Tensor:
    """DETR's sine embedding, not normalised, cells counted from 1: (1, channels, H, W)."""
    half = channels // 2
    period = 10000.0 ** (2 * (torch.arange(half) // 2) / half)
    parts = []
    for axis in (0, 1):  # rows fill the first half of the channels
        angle = torch.arange(1, grid_hw[axis] + 1)[:, None] / period  # (side, half)
        parts.append(torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1))
    rows = parts[0].T[:, :, None].expand(-1, -1, grid_hw[1])
    columns = parts[1].T[:, None, :].expand(-1, grid_hw[0], -1)
    return torch.cat((rows, columns))[None].contiguous()
