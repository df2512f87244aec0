"""The thin, deep ResNet of small images: three stages of 16, 32 and 64 channels, stride 4.

Structure and key names follow lucastabelini/LaneATT, commit 2f8583b, lib/models/resnet.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64)
STRIDE = 4


class Block(nn.Module):
    """Two 3x3 convolutions; where the size changes, the shortcut is strided and zero-padded."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widened = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2 if self.widened else 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), or (N, 2 C, H / 2, W / 2) where a stage begins."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.widened:
            x = x[:, :, ::2, ::2]
            zeros = x[:, : self.widened // 2] * 0
            x = torch.cat([zeros, x, zeros], dim=1)
        return self.relu(y + x)


class CifarResNet(nn.Module):
    """Stem and three stages of `blocks` blocks each: 6 * blocks + 2 layers."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=False)
        inputs = WIDTHS[0]
        for i, width in enumerate(WIDTHS, start=1):
            stage = [Block(inputs, width), *(Block(width, width) for _ in range(blocks - 1))]
            self.add_module(f"layer{i}", nn.Sequential(*stage))
            inputs = width

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 64, H / 4, W / 4)."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))
