"""RepVGG trunk at 1/8 of the input: three trained branches, run as the one convolution they are.

Structure and key names follow voldemortX/pytorch-auto-drive 137e63a (rep_vgg.py), whose checkpoints
hold the branches; the sum of them is DingXiaoH/RepVGG's published re-parametrisation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

A1_BLOCKS = (1, 2, 4, 14, 1)
A1_CHANNELS = (64, 64, 128, 256, 1280)
STRIDES = (2, 2, 2, 1, 1)
DILATIONS = (1, 1, 1, 2, 4)


class RepVGGBlock(nn.Module):
    """3x3, 1x1 and identity branches, each with a batch norm, summed and rectified.

    Outside training this is one 3x3 convolution whose weight is a function of the parameters; that
    is what forward runs, so that the graph, and INT8, see one convolution. It cannot be trained.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.rbr_dense = _conv_bn(inputs, outputs, 3)
        self.rbr_1x1 = _conv_bn(inputs, outputs, 1)
        middle = F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1))  # where a 3x3 holds a 1x1
        self.register_buffer("middle", middle, persistent=False)
        # As officially, where strides become dilations after the branches are chosen: only blocks
        # that keep the channels and once did not halve the map have an identity.
        self.rbr_identity: nn.BatchNorm2d | None = None

    def with_identity(self) -> RepVGGBlock:
        """Itself, with the identity branch."""
        channels = self.rbr_dense.conv.in_channels
        self.rbr_identity = nn.BatchNorm2d(channels)
        identity = torch.eye(channels)[:, :, None, None]  # as a 1x1 convolution
        self.register_buffer("identity", identity, persistent=False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        dense, bias = _folded(self.rbr_dense.conv.weight, self.rbr_dense.bn)
        centre, centre_bias = _folded(self.rbr_1x1.conv.weight, self.rbr_1x1.bn)
        bias = bias + centre_bias
        if self.rbr_identity is not None:
            kept, kept_bias = _folded(self.identity, self.rbr_identity)
            centre, bias = centre + kept, bias + kept_bias
        weight = dense + centre * self.middle
        y = F.conv2d(
            x, weight, bias, stride=self.stride, padding=self.dilation, dilation=self.dilation
        )
        return F.relu(y)


class RepVGGStages(nn.Module):
    """RepVGG-A1 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        numbers = zip(A1_BLOCKS, A1_CHANNELS, STRIDES, DILATIONS, strict=True)
        for i, (count, channels, stride, dilation) in enumerate(numbers):
            blocks = []
            for j in range(count):
                block = RepVGGBlock(inputs, channels, stride if j == 0 else 1, dilation)
                blocks.append(block if j == 0 else block.with_identity())
                inputs = channels
            self.add_module(f"stage{i}", blocks[0] if i == 0 else nn.Sequential(*blocks))


class RepVGGA1(nn.Module):
    """RepVGG-A1 whose last two stages dilate instead of halving."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = RepVGGStages()
        self.channels = [A1_CHANNELS[-1]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> [(N, 1280, H / 8, W / 8)]."""
        for i in range(len(A1_BLOCKS)):
            x = getattr(self.encoder, f"stage{i}")(x)
        return [x]


def _conv_bn(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    branch = nn.Sequential()
    branch.add_module("conv", nn.Conv2d(inputs, outputs, kernel, bias=False))
    branch.add_module("bn", nn.BatchNorm2d(outputs))
    return branch


def _folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
