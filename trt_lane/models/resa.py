"""RESA: a dilated trunk at 1/8 or 1/16, recurrent feature shifts, a bilateral up-sampling decoder.

Structure, key names and numbers follow voldemortX/pytorch-auto-drive 137e63a
(configs/lane_detection/resa, lane_detection/resa.py, heads/busd.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from trt_lane.model import LaneModel
from trt_lane.models._auto_drive import DATA_SETS, segmentation_model
from trt_lane.models._erfnet import (
    BATCH_NORM_EPS,
    STRIDE,
    ERFNet,
    LaneExistence,
    NonBottleneck1d,
    map_hw,
)
from trt_lane.models._message_passing import Resa
from trt_lane.models._mobilenet import STRIDE as MOBILENET_STRIDE
from trt_lane.models._mobilenet import MobileNetV2, MobileNetV3Large
from trt_lane.models._resnet import ResNetTrunk
from trt_lane.models.scnn import ChannelReducer

CHANNELS = 128


class BilateralUpsampler(nn.Module):
    """Doubles the map: a transposed convolution for detail beside a bilinear resize.

    Args:
        inputs, outputs: channels.
        output_hw: height and width of the doubled map.
    """

    def __init__(self, inputs: int, outputs: int, output_hw: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        self.follows = nn.ModuleList(NonBottleneck1d(outputs) for _ in range(2))
        self.interpolate_conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.interpolate_bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)
        self.output_hw = output_hw

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2 H, 2 W)."""
        fine = F.relu(self.bn(self.conv(x)))
        for follow in self.follows:
            fine = follow(fine)
        coarse = F.relu(self.interpolate_bn(self.interpolate_conv(x)))
        coarse = F.interpolate(coarse, size=self.output_hw, mode="bilinear", align_corners=True)
        return fine + coarse


class BilateralDecoder(nn.Module):
    """Eight times the map's size in three doublings, halving the channels each time."""

    def __init__(self, channels: int, classes: int, map_hw: tuple[int, int]) -> None:
        super().__init__()
        height, width = map_hw
        self.layers = nn.ModuleList(
            BilateralUpsampler(
                channels >> i, channels >> (i + 1), (height << (i + 1), width << (i + 1))
            )
            for i in range(3)
        )
        self.output_proj = nn.Conv2d(channels >> 3, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> class logits (N, classes, 8 H, 8 W)."""
        for layer in self.layers:
            x = layer(x)
        return self.output_proj(x)


class RESANet(nn.Module):
    """RESA on a trunk.

    Args:
        backbone: gives a list of maps, of which the last is used, and has their `channels`.
        map_hw: height and width of that map.
        lanes: L.
        iterations: shifts per direction.
    """

    def __init__(
        self, backbone: nn.Module, map_hw: tuple[int, int], lanes: int, iterations: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.channel_reducer = ChannelReducer(backbone.channels[-1], CHANNELS)
        self.spatial_conv = Resa(CHANNELS, map_hw, iterations)
        self.decoder = BilateralDecoder(CHANNELS, lanes + 1, map_hw)
        self.lane_classifier = LaneExistence(CHANNELS, map_hw, lanes, pool=nn.AvgPool2d(2, 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"out": (N, L + 1, 8 h, 8 w), "lane": (N, L)}, logits; (h, w) map_hw."""
        x = self.spatial_conv(self.channel_reducer(self.backbone(x)[-1]))
        return {"out": self.decoder(x), "lane": self.lane_classifier(x)}


def resa_resnet(depth: int, input_hw: tuple[int, int], lanes: int) -> RESANet:
    """RESA on the first three stages of a ResNet, the third dilated instead of halving."""
    backbone = ResNetTrunk(depth, strides=(1, 2, 1), dilations=(1, 1, 2))
    return RESANet(backbone, map_hw(input_hw), lanes, iterations=5)


def resa_mobilenet(
    backbone: Callable[[], nn.Module], input_hw: tuple[int, int], lanes: int
) -> RESANet:
    """RESA on a MobileNet; its map is half as large, so there is a shift less."""
    return RESANet(backbone(), map_hw(input_hw, MOBILENET_STRIDE), lanes, iterations=4)


def resa_erfnet(input_hw: tuple[int, int], lanes: int) -> ERFNet:
    """ERFNet with RESA's shifts between encoder and decoder."""
    return ERFNet(input_hw, lanes, Resa(CHANNELS, map_hw(input_hw)))


# backbone: network, stride, checkpoint keys that inference does not use
BACKBONES = {
    "r18": (partial(resa_resnet, 18), STRIDE, ()),
    "r34": (partial(resa_resnet, 34), STRIDE, ()),
    "r50": (partial(resa_resnet, 50), STRIDE, ()),
    "r101": (partial(resa_resnet, 101), STRIDE, ()),
    "erfnet": (resa_erfnet, STRIDE, ("encoder.output_conv.",)),
    "mobilenetv2": (partial(resa_mobilenet, MobileNetV2), MOBILENET_STRIDE, ()),
    "mobilenetv3": (partial(resa_mobilenet, MobileNetV3Large), MOBILENET_STRIDE, ()),
}


# The model zoo links its files; no page or shell says what they are called.
UNNAMED = "RESA ERFNet in docs/MODEL_ZOO.md"


def _model(backbone: str, data: str, score: str, checkpoint: str) -> LaneModel:
    data_set = DATA_SETS[data]
    network, stride, training_only = BACKBONES[backbone]
    height, width = map_hw(data_set.input_hw, stride)
    name, out_hw = f"resa.{backbone}_{data}", (8 * height, 8 * width)
    return segmentation_model(name, network, data_set, out_hw, checkpoint, score, training_only)


MODELS = (
    _model("r18", "culane", "72.90", "resnet18_resa_culane_20211016.pt"),
    _model("r34", "culane", "73.66", "resnet34_resa_culane_20211016.pt"),
    _model("r50", "culane", "74.19", "resnet50_resa_culane_20211016.pt"),
    _model("r101", "culane", "74.04", "resnet101_resa_culane_20211016.pt"),
    _model("erfnet", "culane", "73.32", UNNAMED),
    _model("mobilenetv2", "culane", "72.36", "mobilenetv2_resa_culane_20220209.pt"),
    _model("mobilenetv3", "culane", "70.61", "mobilenetv3-large_resa_culane_20220209.pt"),
    _model("r18", "tusimple", "95.24", "resnet18_resa_tusimple_20211019.pt"),
    _model("r34", "tusimple", "95.15", "resnet34_resa_tusimple_20211019.pt"),
    _model("r50", "tusimple", "95.50", "resnet50_resa_tusimple_20211019.pt"),
    _model("r101", "tusimple", "95.56", "resnet101_resa_tusimple_20211019.pt"),
    _model("erfnet", "tusimple", "95.76", UNNAMED),
    _model("mobilenetv2", "tusimple", "95.21", "mobilenetv2_resa_tusimple_20220209.pt"),
    _model("mobilenetv3", "tusimple", "94.99", "mobilenetv3-large_resa_tusimple_20220209.pt"),
)
