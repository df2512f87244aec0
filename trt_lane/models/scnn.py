"""SCNN: a dilated trunk at 1/8, spatial message passing, one class per lane.

Structure, key names and numbers follow voldemortX/pytorch-auto-drive 137e63a
(configs/lane_detection/scnn, segmentation/_utils.py, deeplab_vgg.py, vgg_encoder.py).
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from trt_lane.model import LaneModel
from trt_lane.models._auto_drive import DATA_SETS, segmentation_model
from trt_lane.models._erfnet import ERFNet, map_hw
from trt_lane.models._message_passing import SpatialConv
from trt_lane.models._repvgg import RepVGGA1
from trt_lane.models._resnet import ResNetTrunk

CHANNELS = 128  # of the map that messages pass across
# Channels of VGG-16's convolutions; "pool" halves the map. The last two pools are left out, and the
# three convolutions after the first of them dilate instead.
VGG_LAYERS = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool"),
    *(512, 512, 512, None, 512, 512, 512),
)


class ChannelReducer(nn.Module):
    """1x1 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return F.relu(self.bn1(self.conv1(x)))


class SimpleLaneExistence(nn.Module):
    """Which lanes are there: class probabilities, halved, through two linear layers."""

    def __init__(self, map_hw: tuple[int, int], lanes: int) -> None:
        super().__init__()
        self.avgpool = nn.AvgPool2d(2, 2)
        self.linear1 = nn.Linear((lanes + 1) * (map_hw[0] // 2) * (map_hw[1] // 2), 128)
        self.linear2 = nn.Linear(128, lanes)

    def forward(self, logits: Tensor) -> Tensor:
        """Class logits (N, L + 1, H, W) -> existence logits (N, L)."""
        x = self.avgpool(F.softmax(logits, 1)).flatten(1)
        return self.linear2(F.relu(self.linear1(x)))


class SCNNResNet(nn.Module):
    """SCNN on a ResNet whose last two stages dilate instead of halving."""

    def __init__(self, depth: int, input_hw: tuple[int, int], lanes: int) -> None:
        super().__init__()
        grid = map_hw(input_hw)
        self.backbone = ResNetTrunk(depth, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
        self.channel_reducer = ChannelReducer(self.backbone.channels[-1], CHANNELS)
        self.scnn_layer = SpatialConv(CHANNELS, grid)
        self.classifier = _classifier(lanes)
        self.lane_classifier = SimpleLaneExistence(grid, lanes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"out": (N, L + 1, H / 8, W / 8), "lane": (N, L)}, both logits."""
        x = self.scnn_layer(self.channel_reducer(self.backbone(x)[-1]))
        out = self.classifier(x)
        return {"out": out, "lane": self.lane_classifier(out)}


class SCNNRepVGG(nn.Module):
    """SCNN on RepVGG-A1; the same parts under other names."""

    def __init__(self, input_hw: tuple[int, int], lanes: int) -> None:
        super().__init__()
        grid = map_hw(input_hw)
        self.encoder = RepVGGA1()
        self.reducer = ChannelReducer(self.encoder.channels[-1], CHANNELS)
        self.scnn = SpatialConv(CHANNELS, grid)
        self.classifier = _classifier(lanes)
        self.lane_classifier = SimpleLaneExistence(grid, lanes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"out": (N, L + 1, H / 8, W / 8), "lane": (N, L)}, both logits."""
        out = self.classifier(self.scnn(self.reducer(self.encoder(x)[-1])))
        return {"out": out, "lane": self.lane_classifier(out)}


class VGG16(nn.Module):
    """VGG-16 with batch norm at 1/8; indices are torchvision's, the left-out pools included."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential()
        inputs, index, dilation = 3, 0, 1
        for layer in VGG_LAYERS:
            if layer is None:
                dilation = 2
                index += 1
            elif layer == "pool":
                self.net.add_module(str(index), nn.MaxPool2d(2, 2))
                index += 1
            else:
                conv = nn.Conv2d(inputs, layer, 3, padding=dilation, dilation=dilation)
                for part in (conv, nn.BatchNorm2d(layer), nn.ReLU()):
                    self.net.add_module(str(index), part)
                    index += 1
                inputs = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 512, H / 8, W / 8)."""
        return self.net(x)


class SCNNVGG(nn.Module):
    """SCNN as published: VGG-16 with large-field-of-view layers (DeepLab v1)."""

    def __init__(self, input_hw: tuple[int, int], lanes: int) -> None:
        super().__init__()
        grid = map_hw(input_hw)
        self.encoder = VGG16()
        self.fc67 = nn.Sequential(
            nn.Conv2d(512, 1024, 3, padding=4, dilation=4, bias=False),
            nn.BatchNorm2d(1024),
            nn.ReLU(),
            nn.Conv2d(1024, CHANNELS, 1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
        )
        self.scnn = SpatialConv(CHANNELS, grid)
        self.fc8 = nn.Sequential(nn.Identity(), nn.Conv2d(CHANNELS, lanes + 1, 1))
        self.lane_classifier = SimpleLaneExistence(grid, lanes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"out": (N, L + 1, H / 8, W / 8), "lane": (N, L)}, both logits."""
        out = self.fc8(self.scnn(self.fc67(self.encoder(x))))
        return {"out": out, "lane": self.lane_classifier(out)}


def scnn_erfnet(input_hw: tuple[int, int], lanes: int) -> ERFNet:
    """ERFNet with SCNN's message passing between encoder and decoder."""
    return ERFNet(input_hw, lanes, SpatialConv(CHANNELS, map_hw(input_hw)))


def _classifier(lanes: int) -> nn.Sequential:
    """Class logits; officially a list of one module that holds one convolution."""
    classifier = nn.Sequential(nn.Sequential())
    classifier[0].add_module("conv", nn.Conv2d(CHANNELS, lanes + 1, 3, padding=1))
    return classifier


# backbone: network, checkpoint keys that inference does not use. RepVGG's
# checkpoints hold the trunk twice, once as layer0..4, and its ImageNet classifier.
BACKBONES = {
    "r18": (partial(SCNNResNet, 18), ()),
    "r34": (partial(SCNNResNet, 34), ()),
    "r50": (partial(SCNNResNet, 50), ()),
    "r101": (partial(SCNNResNet, 101), ()),
    "vgg16": (SCNNVGG, ()),
    "erfnet": (scnn_erfnet, ("encoder.output_conv.",)),
    "repvgg_a1": (SCNNRepVGG, ("encoder.layer", "encoder.encoder.linear.")),
}


def _model(backbone: str, data: str, score: str, checkpoint: str) -> LaneModel:
    data_set = DATA_SETS[data]
    network, training_only = BACKBONES[backbone]
    # ERFNet decodes to the input's size, the others stay at 1/8.
    out_hw = data_set.input_hw if backbone == "erfnet" else map_hw(data_set.input_hw)
    name = f"scnn.{backbone}_{data}"
    return segmentation_model(name, network, data_set, out_hw, checkpoint, score, training_only)


MODELS = (
    _model("r18", "culane", "72.19", "resnet18_scnn_culane_20210222.pt"),
    _model("r34", "culane", "72.70", "resnet34_scnn_culane_20210220.pt"),
    _model("r50", "culane", "73.03", "resnet50_scnn_culane_20210311.pt"),
    _model("r101", "culane", "73.58", "resnet101_scnn_culane_20210314.pt"),
    _model("vgg16", "culane", "74.29", "vgg16_scnn_culane_20210309.pt"),
    _model("erfnet", "culane", "74.03", "erfnet_scnn_culane_20210206.pt"),
    _model("repvgg_a1", "culane", "72.89", "repvgg-a1_scnn_culane_20220112.pt"),
    _model("r18", "tusimple", "94.77", "resnet18_scnn_tusimple_20210424.pt"),
    _model("r34", "tusimple", "95.25", "resnet34_scnn_tusimple_20210424.pt"),
    _model("r50", "tusimple", "95.56", "resnet50_scnn_tusimple_20210217.pt"),
    _model("r101", "tusimple", "95.69", "resnet101_scnn_tusimple_20210218.pt"),
    _model("vgg16", "tusimple", "95.17", "vgg16_scnn_tusimple_20210224.pt"),
    _model("erfnet", "tusimple", "96.29", "erfnet_scnn_tusimple_20210202.pt"),
    _model("r34", "llamas", "96.19", "resnet34_scnn_llamas_20210625.pt"),
    _model("vgg16", "llamas", "96.42", "vgg16_scnn_llamas_20210625.pt"),
    _model("erfnet", "llamas", "95.94", "erfnet_scnn_llamas_20210625.pt"),
)
