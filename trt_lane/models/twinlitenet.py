"""TwinLiteNet: one light encoder, two decoders; which pixels are drivable, which are lane marking.

Structure, key names and pre-processing follow chequanghuy/TwinLiteNet 5241418 (model/TwinLite.py,
test_image.py).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from trt_lane.decoders.lane_mask import LaneMask
from trt_lane.image import ImageSpec
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin

BATCH_NORM_EPS = 1e-3
STRIDE = 8  # of the encoder
CLASSES = 2  # background, foreground
ENCODED = 32  # channels of the encoder's output
BRANCH_DILATIONS = (1, 2, 4, 8, 16)


class ConvBnPrelu(nn.Module):
    """Convolution, batch norm, PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return self.act(self.bn(self.conv(x)))


class Doubler(nn.Module):
    """Transposed convolution that doubles the map, batch norm, PReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, 2, 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2 H, 2 W)."""
        return self.act(self.bn(self.deconv(x)))


class BareConv(nn.Module):
    """A convolution without bias, one level down in the keys."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return self.conv(x)


class Pyramid(nn.Module):
    """ESPNet's reduce, split, merge: dilated branches whose sums are concatenated.

    Args:
        inputs, outputs: channels.
        reduce: the convolution before the branches, to outputs // 5 channels.
    """

    def __init__(self, outputs: int, reduce: BareConv) -> None:
        super().__init__()
        branch = outputs // len(BRANCH_DILATIONS)
        first = outputs - (len(BRANCH_DILATIONS) - 1) * branch
        self.c1 = reduce
        for d in BRANCH_DILATIONS:
            self.add_module(f"d{d}", BareConv(branch, first if d == 1 else branch, dilation=d))

    def branches(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        reduced = self.c1(x)
        # Branch by branch the sum of all but the first: no gridding from large dilations.
        parts = [self.d1(reduced), self.d2(reduced)]
        for d in BRANCH_DILATIONS[2:]:
            parts.append(parts[-1] + getattr(self, f"d{d}")(reduced))
        return torch.cat(parts, 1)


class DownPyramid(Pyramid):
    """A pyramid that halves the map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        reduced = outputs // len(BRANCH_DILATIONS)
        super().__init__(outputs, BareConv(inputs, reduced, 3, stride=2))
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
        return self.act(self.bn(self.branches(x)))


class BnPrelu(nn.Module):
    """Batch norm and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape stays."""
        return self.act(self.bn(x))


class ResidualPyramid(Pyramid):
    """A pyramid with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, BareConv(channels, channels // len(BRANCH_DILATIONS), 1))
        self.bn = BnPrelu(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return self.bn(x + self.branches(x))


class AveragePyramid(nn.Module):
    """The image, halved `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.pool = nn.Sequential(*(nn.AvgPool2d(3, 2, 1) for _ in range(times)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H / 2^times, W / 2^times)."""
        return self.pool(x)


class PositionAttention(nn.Module):
    """Every place looks at every other place (SAGAN, DANet)."""

    def __init__(self, channels: int, map_hw: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.map_hw = channels, map_hw
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        query = self.query_conv(x).flatten(2).transpose(1, 2)  # (N, H W, C / 8)
        attention = torch.matmul(query, self.key_conv(x).flatten(2)).softmax(-1)
        seen = torch.matmul(self.value_conv(x).flatten(2), attention.transpose(1, 2))
        return self.gamma * seen.reshape(-1, self.channels, *self.map_hw) + x


class ChannelAttention(nn.Module):
    """Every channel looks at the channels least like it (DANet)."""

    def __init__(self, channels: int, map_hw: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.map_hw = channels, map_hw
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        flat = x.flatten(2)
        likeness = torch.matmul(flat, flat.transpose(1, 2))  # (N, C, C)
        unlike = likeness.amax(-1, keepdim=True) - likeness
        seen = torch.matmul(unlike.softmax(-1), flat)
        return self.gamma * seen.reshape(-1, self.channels, *self.map_hw) + x


class Encoder(nn.Module):
    """ESPNet-C with dual attention, down to an eighth.

    Args:
        input_hw: height and width of the input, divisible by 8.
        depths: residual pyramids at 1/4 and at 1/8.
    """

    def __init__(self, input_hw: tuple[int, int], depths: tuple[int, int] = (2, 3)) -> None:
        super().__init__()
        map_hw = input_hw[0] // STRIDE, input_hw[1] // STRIDE
        self.level1 = ConvBnPrelu(3, 16, 3, 2)
        self.sample1 = AveragePyramid(1)
        self.sample2 = AveragePyramid(2)
        self.b1 = ConvBnPrelu(16 + 3, 19)
        self.level2_0 = DownPyramid(16 + 3, 64)
        self.level2 = nn.ModuleList(ResidualPyramid(64) for _ in range(depths[0]))
        self.b2 = ConvBnPrelu(128 + 3, 131)
        self.level3_0 = DownPyramid(128 + 3, 128)
        self.level3 = nn.ModuleList(ResidualPyramid(128) for _ in range(depths[1]))
        self.b3 = ConvBnPrelu(256, ENCODED)
        self.sa = PositionAttention(ENCODED, map_hw)
        self.sc = ChannelAttention(ENCODED, map_hw)
        self.conv_sa = ConvBnPrelu(ENCODED, ENCODED)
        self.conv_sc = ConvBnPrelu(ENCODED, ENCODED)
        self.classifier = ConvBnPrelu(ENCODED, ENCODED, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 32, H / 8, W / 8)."""
        half = self.b1(torch.cat([self.level1(image), self.sample1(image)], 1))
        first = quarter = self.level2_0(half)
        for layer in self.level2:
            quarter = layer(quarter)
        quarter = self.b2(torch.cat([quarter, first, self.sample2(image)], 1))
        first = eighth = self.level3_0(quarter)
        for layer in self.level3:
            eighth = layer(eighth)
        x = self.b3(torch.cat([first, eighth], 1))
        return self.classifier(self.conv_sa(self.sa(x)) + self.conv_sc(self.sc(x)))


class TwinLiteNet(nn.Module):
    """The encoder and two decoders of three doublings each."""

    def __init__(self, input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = Encoder(input_hw)
        self.up_1_1 = Doubler(ENCODED, 16)
        self.up_2_1 = Doubler(16, 8)
        self.up_1_2 = Doubler(ENCODED, 16)
        self.up_2_2 = Doubler(16, 8)
        self.classifier_1 = Doubler(8, CLASSES)
        self.classifier_2 = Doubler(8, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"drivable": (N, 2, H, W), "lane": (N, 2, H, W)}, both logits."""
        x = self.encoder(x)
        return {
            "drivable": self.classifier_1(self.up_2_1(self.up_1_1(x))),
            "lane": self.classifier_2(self.up_2_2(self.up_1_2(x))),
        }


# BDD100K's frames; the official code resizes with cv2 and only divides by 255.
IMAGE = ImageSpec(frame_hw=(720, 1280), input_hw=(360, 640), mean=(0, 0, 0), std=(1, 1, 1))
# Shorter lines are scraps that any rounding makes or breaks (ours): with 10 rows INT8 shares .951
# of its lanes with float on 30 frames of drive.mp4, with 15 .989, with 20 no more. It costs short
# lines: float finds 133 there instead of 153.
DECODER = LaneMask(frame_hw=IMAGE.frame_hw, input_hw=IMAGE.input_hw, min_rows=15)
FOREGROUND = Confidence(
    "lane", Activation.SOFTMAX, axis=0, classes=(1,), threshold=DECODER.threshold
)

MODELS = (
    LaneModel(
        name="twinlitenet.bdd100k",
        image=IMAGE,
        heads=(
            Head("drivable", (CLASSES, *IMAGE.input_hw), "drivable area logits"),
            Head("lane", (CLASSES, *IMAGE.input_hw), "lane marking logits", FOREGROUND, (1, 2)),
        ),
        decoder=DECODER,
        network=partial(TwinLiteNet, IMAGE.input_hw),
        metric=Metric.BDD100K,
        origin=Origin(
            "https://github.com/chequanghuy/TwinLiteNet",
            "MIT",
            "pretrained/best.pth",
            "BDD100K lane IoU 31.1, accuracy 77.8; drivable area mIoU 91.3",
        ),
    ),
)
