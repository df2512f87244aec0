"""Message passing across a feature map: SCNN's row by row, RESA's by circular shifts.

Both are recurrent along an axis; here they are unrolled into static slices, so that the exported
graph holds convolutions, slices and concatenations only. Formulas and key names follow
voldemortX/pytorch-auto-drive 137e63a (spatial_conv.py, resa_layer.py).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEIGHT_AXIS, WIDTH_AXIS = 2, 3
REACH = 9  # a message comes from this many neighbours along the other axis


class SpatialConv(nn.Module):
    """SCNN: each row (column) receives a convolution of the updated one before it.

    Downwards and rightwards every row but the first is updated. Upwards and leftwards the official
    code also leaves the last one that the message would reach as it is; so does this.

    Args:
        channels: of the feature map.
        map_hw: height and width of the feature map.
    """

    def __init__(self, channels: int, map_hw: tuple[int, int]) -> None:
        super().__init__()
        self.map_hw = map_hw
        self.conv_d = _row_conv(channels, bias=True)
        self.conv_u = _row_conv(channels, bias=True)
        self.conv_r = _column_conv(channels, bias=True)
        self.conv_l = _column_conv(channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        height, width = self.map_hw
        x = _pass_along(x, HEIGHT_AXIS, height, range(height), self.conv_d)
        x = _pass_along(x, HEIGHT_AXIS, height, range(height - 1, 0, -1), self.conv_u)
        x = _pass_along(x, WIDTH_AXIS, width, range(width), self.conv_r)
        return _pass_along(x, WIDTH_AXIS, width, range(width - 1, 0, -1), self.conv_l)


class Resa(nn.Module):
    """RESA: the whole map receives a convolution of itself, circularly shifted, `iterations` times.

    The shift is size // 2^iterations at first and doubles each time.

    Args:
        channels: of the feature map.
        map_hw: height and width of the feature map.
        iterations: shifts per direction.
        alpha: weight of a message.
    """

    def __init__(
        self, channels: int, map_hw: tuple[int, int], iterations: int = 5, alpha: float = 2.0
    ) -> None:
        super().__init__()
        self.map_hw = map_hw
        self.iterations = iterations
        self.alpha = alpha
        self.conv_d = nn.ModuleList(_row_conv(channels) for _ in range(iterations))
        self.conv_u = nn.ModuleList(_row_conv(channels) for _ in range(iterations))
        self.conv_r = nn.ModuleList(_column_conv(channels) for _ in range(iterations))
        self.conv_l = nn.ModuleList(_column_conv(channels) for _ in range(iterations))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        height, width = self.map_hw
        x = self._shift_along(x, HEIGHT_AXIS, height, self.conv_d, forwards=True)
        x = self._shift_along(x, HEIGHT_AXIS, height, self.conv_u, forwards=False)
        x = self._shift_along(x, WIDTH_AXIS, width, self.conv_r, forwards=True)
        return self._shift_along(x, WIDTH_AXIS, width, self.conv_l, forwards=False)

    def _shift_along(
        self, x: Tensor, axis: int, size: int, convs: nn.ModuleList, forwards: bool
    ) -> Tensor:
        for i, conv in enumerate(convs):
            shift = size // 2 ** (self.iterations - i)
            start = shift if forwards else size - shift
            parts = x.split([start, size - start], axis)
            shifted = torch.cat([parts[1], parts[0]], axis)
            x = x + self.alpha * F.relu(conv(shifted))
        return x


def _pass_along(x: Tensor, axis: int, size: int, order: range, conv: nn.Module) -> Tensor:
    """Update the slices of `x` in `order`, all but the first; slices not in `order` stay."""
    # split, not narrow: its sizes are plain constants in the ONNX, so shapes stay known there.
    parts = x.split(1, axis)
    slices = [parts[i] for i in range(size)]
    for before, i in pairwise(order):
        slices[i] = slices[i] + F.relu(conv(slices[before]))
    return torch.cat(slices, axis)


def _row_conv(channels: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (1, REACH), padding=(0, REACH // 2), bias=bias)


def _column_conv(channels: int, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (REACH, 1), padding=(REACH // 2, 0), bias=bias)
