"""Deformable convolution (DCNv2) from GridSample: exact, and native to ONNX and TensorRT.

A modulated deformable convolution reads, for every place and every tap of its kernel, the map at a
fractional place of its own, weighs it, and sums as a convolution does. Here all taps are read at
once into a map k times as large, on which a convolution of stride k is the sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformablePatches(nn.Module):
    """Reads the k x k taps of every place, side by side.

    Args:
        map_hw: height H and width W of the map; stride 1, padding k // 2, one offset group.
        kernel: k, odd.
    """

    def __init__(self, map_hw: tuple[int, int], kernel: int = 3) -> None:
        super().__init__()
        self.kernel, self.map_hw = kernel, map_hw
        height, width = map_hw
        tap_x = torch.arange(width).repeat_interleave(kernel) + _taps(kernel, width)
        tap_y = torch.arange(height).repeat_interleave(kernel) + _taps(kernel, height)
        y, x = torch.meshgrid(tap_y, tap_x, indexing="ij")
        places = torch.stack([x, y], dim=-1).float()[None]  # (1, k H, k W, 2)
        scale = 2 / torch.tensor([max(width - 1, 1), max(height - 1, 1)]).float()
        self.register_buffer("scale", scale, persistent=False)
        # GridSample counts from -1 to 1, corner to corner.
        self.register_buffer("places", places * scale - 1, persistent=False)

    def forward(self, x: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Taps of the map, zero outside it.

        Args:
            x: (N, C, H, W).
            offsets: (N, 2 k k, H, W) in places of the map: dy, dx of tap 0, dy, dx of tap 1, ...
            weights: (N, k k, H, W), of every tap.

        Returns:
            (N, C, k H, k W); tap (i, j) of place (r, c) is at (k r + i, k c + j).
        """
        taps = self.kernel**2
        by_axis = offsets.reshape(-1, taps, 2, *self.map_hw).transpose(1, 2)  # all dy, all dx
        moved = F.pixel_shuffle(by_axis.reshape(-1, 2 * taps, *self.map_hw), self.kernel)
        axes = moved.split(1, 1)
        moved = torch.cat([axes[1], axes[0]], 1)  # x before y
        moved = moved.permute(0, 2, 3, 1)  # (N, k H, k W, 2)
        grid = moved * self.scale + self.places
        patches = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        return patches * F.pixel_shuffle(weights, self.kernel)


def _taps(kernel: int, size: int) -> Tensor:
    return (torch.arange(kernel) - kernel // 2).repeat(size)
