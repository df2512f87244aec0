"""Deep Layer Aggregation (DLA-34): trees of residual blocks whose roots merge what lies below.

Structure and key names follow Turoad/CLRNet, commit 7269e9d, clrnet/models/backbones/dla34.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = (16, 32, 64, 128, 256, 512)
DEPTHS = (1, 1, 1, 2, 2, 1)


class Block(nn.Module):
    """Two 3x3 convolutions; the residual is handed in."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(N, C, H, W) and the residual, of the output's size."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + residual)


class Root(nn.Module):
    """A 1x1 convolution over all that a tree made."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Tensors (N, C_i, H, W) -> (N, outputs, H, W)."""
        return self.relu(self.bn(self.conv(torch.cat(parts, dim=1))))


class Tree(nn.Module):
    """Two blocks and their root, or two smaller trees of which the second takes in the first.

    Args:
        depth: 1 for blocks, more for trees.
        inputs, outputs: channels.
        stride: of the whole tree.
        keeps_input: whether the root also reads the (pooled) input.
        passed: channels that the tree above hands to the root.
    """

    def __init__(
        self,
        depth: int,
        inputs: int,
        outputs: int,
        stride: int,
        keeps_input: bool = False,
        passed: int = 0,
    ) -> None:
        super().__init__()
        passed += inputs if keeps_input else 0
        self.depth = depth
        self.keeps_input = keeps_input
        self.downsample = nn.MaxPool2d(stride, stride) if stride > 1 else None
        self.project = None
        if depth == 1:
            self.tree1 = Block(inputs, outputs, stride)
            self.tree2 = Block(outputs, outputs, 1)
            self.root = Root(2 * outputs + passed, outputs)
            # Deeper trees have one in the official code too, whose result nothing reads.
            if inputs != outputs:
                self.project = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
                )
        else:
            self.tree1 = Tree(depth - 1, inputs, outputs, stride)
            self.tree2 = Tree(depth - 1, outputs, outputs, 1, passed=passed + outputs)

    def forward(self, x: Tensor, passed: list[Tensor] | None = None) -> Tensor:
        """(N, inputs, H, W) and what the tree above hands down -> (N, outputs, H / stride, ...)."""
        passed = list(passed or [])
        bottom = x if self.downsample is None else self.downsample(x)
        if self.keeps_input:
            passed.append(bottom)
        if self.depth > 1:
            first = self.tree1(x)
            return self.tree2(first, [*passed, first])
        first = self.tree1(x, bottom if self.project is None else self.project(bottom))
        second = self.tree2(first, first)
        return self.root([second, first, *passed])


class DLA34(nn.Module):
    """The trunk; its outputs have stride 4, 8, 16 and 32."""

    channels = CHANNELS[2:]

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = _convolution(3, CHANNELS[0], 7, 1)
        self.level0 = _convolution(CHANNELS[0], CHANNELS[0], 3, 1)
        self.level1 = _convolution(CHANNELS[0], CHANNELS[1], 3, 2)
        for i in range(2, len(CHANNELS)):
            tree = Tree(DEPTHS[i], CHANNELS[i - 1], CHANNELS[i], 2, keeps_input=i > 2)
            self.add_module(f"level{i}", tree)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features, finest first."""
        x = self.level1(self.level0(self.base_layer(x)))
        features = []
        for i in range(2, len(CHANNELS)):
            x = getattr(self, f"level{i}")(x)
            features.append(x)
        return features


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=False),
    )
