"""ERFNet and its parts, shared by the segmentation families: factorised residual blocks.

Structure and key names follow voldemortX/pytorch-auto-drive 137e63a (segmentation/erfnet.py,
non_bottleneck_1d.py, encoder_decoder_lane_exist.py).
"""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-3
STRIDE = 8  # of the encoder
ENCODER_DILATIONS = (2, 4, 8, 16, 2, 4, 8, 16)
EXISTENCE_CHANNELS = 5  # whatever the number of lanes


class NonBottleneck1d(nn.Module):
    """Two pairs of 3x1 and 1x3 convolutions and a residual; the second pair may dilate."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        d = dilation
        self.conv3x1_1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv1x3_1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.bn1 = nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
        self.conv3x1_2 = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.conv1x3_2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d))
        self.bn2 = nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = F.relu(self.bn1(self.conv1x3_1(F.relu(self.conv3x1_1(x)))))
        y = self.bn2(self.conv1x3_2(F.relu(self.conv3x1_2(y))))
        return F.relu(y + x)


class Downsampler(nn.Module):
    """Halves the map: a strided convolution beside a max-pool."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, 2, 1)
        self.pool = nn.MaxPool2d(2, 2)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        return F.relu(self.bn(torch.cat([self.conv(x), self.pool(x)], 1)))


class Upsampler(nn.Module):
    """Doubles the map with a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2 H, 2 W)."""
        return F.relu(self.bn(self.conv(x)))


class Encoder(nn.Module):
    """Down to an eighth of the input."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        first, middle, last = widths
        self.initial_block = Downsampler(3, first)
        self.layers = nn.ModuleList(
            [
                Downsampler(first, middle),
                *(NonBottleneck1d(middle) for _ in range(5)),
                Downsampler(middle, last),
                *(NonBottleneck1d(last, d) for d in ENCODER_DILATIONS),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, widths[2], H / 8, W / 8)."""
        x = self.initial_block(x)
        for layer in self.layers:
            x = layer(x)
        return x


class Decoder(nn.Module):
    """Back up to the input's size."""

    def __init__(self, widths: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        first, middle, last = widths
        self.layers = nn.ModuleList(
            [
                Upsampler(last, middle),
                *(NonBottleneck1d(middle) for _ in range(2)),
                Upsampler(middle, first),
                *(NonBottleneck1d(first) for _ in range(2)),
            ]
        )
        self.output_conv = nn.ConvTranspose2d(first, classes, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, widths[2], H / 8, W / 8) -> class logits (N, classes, H, W)."""
        for layer in self.layers:
            x = layer(x)
        return self.output_conv(x)


class LaneExistence(nn.Module):
    """Which lanes are there: a coarse segmentation, halved, through two linear layers.

    Args:
        inputs: channels of the feature map.
        map_hw: height and width of the feature map.
        lanes: logits to give.
        pool: layer that halves the map; the official networks differ in it.
    """

    def __init__(self, inputs: int, map_hw: tuple[int, int], lanes: int, pool: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(inputs, 32, 3, padding=4, dilation=4, bias=False),
                nn.BatchNorm2d(32, eps=BATCH_NORM_EPS),
            ]
        )
        # The official list starts with a dropout, which has no keys but the index 0.
        self.layers_final = nn.ModuleList([nn.Identity(), nn.Conv2d(32, EXISTENCE_CHANNELS, 1)])
        self.pool = pool
        height, width = map_hw
        self.linear1 = nn.Linear(EXISTENCE_CHANNELS * (height // 2) * (width // 2), 128)
        self.linear2 = nn.Linear(128, lanes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> logits (N, lanes)."""
        for layer in self.layers:
            x = layer(x)
        x = F.relu(x)
        for layer in self.layers_final:
            x = layer(x)
        x = self.pool(F.softmax(x, 1)).flatten(1)
        return self.linear2(F.relu(self.linear1(x)))


class ERFNet(nn.Module):
    """Encoder, decoder and lane existence; a message passing may sit in between.

    Args:
        input_hw: height and width of the input, divisible by 8.
        lanes: L; the map has one class more, the background, at index 0.
        spatial_conv: applied to the encoder's map, or None.
        widths: channels at 1/2, 1/4 and 1/8 of the input.
    """

    def __init__(
        self,
        input_hw: tuple[int, int],
        lanes: int,
        spatial_conv: nn.Module | None = None,
        widths: tuple[int, int, int] = (16, 64, 128),
    ) -> None:
        super().__init__()
        self.encoder = Encoder(widths)
        self.decoder = Decoder(widths, lanes + 1)
        self.spatial_conv = nn.Identity() if spatial_conv is None else spatial_conv
        self.lane_classifier = LaneExistence(
            widths[2], map_hw(input_hw), lanes, pool=nn.MaxPool2d(2, 2)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"out": logits (N, L + 1, H, W), "lane": logits (N, L)}."""
        x = self.spatial_conv(self.encoder(x))
        return {"out": self.decoder(x), "lane": self.lane_classifier(x)}


def map_hw(input_hw: tuple[int, int], stride: int = STRIDE) -> tuple[int, int]:
    """Height and width of the map at a share of the input."""
    return ceil(input_hw[0] / stride), ceil(input_hw[1] / stride)
