"""BézierLaneNet: one cubic per feature column, after fusing the map with its mirror image.

Structure, key names and numbers follow voldemortX/pytorch-auto-drive 137e63a
(configs/lane_detection/bezierlanenet, lane_detection/bezier_lane_net.py, feature_flip_fusion.py).
"""

from __future__ import annotations

from functools import partial
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trt_lane.decoders.bezier_curve import CONTROL_POINTS, BezierCurve
from trt_lane.image import ImageSpec
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._auto_drive import DATA_SETS
from trt_lane.models._deformable import DeformablePatches
from trt_lane.models._resnet import ResNetTrunk

STRIDE = 16  # of the trunk
TAPS = 3  # side of the deformable kernel
DILATIONS = (4, 8)


class DilatedBottleneck(nn.Module):
    """1x1, dilated 3x3, 1x1 convolutions; the residual is added after the last ReLU."""

    def __init__(self, channels: int, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width))
        self.conv2 = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(width)
        )
        self.conv3 = nn.Sequential(nn.Conv2d(width, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(y)) + x


class DeformableConv(nn.Module):
    """3x3 modulated deformable convolution whose offsets come from the map and a reference.

    The weight belongs to this module, not to a layer inside, because the official keys say so.
    """

    def __init__(self, channels: int, map_hw: tuple[int, int]) -> None:
        super().__init__()
        like = nn.Conv2d(channels, channels, TAPS)
        self.weight, self.bias = like.weight, like.bias
        self.conv_offset = nn.Conv2d(2 * channels, 3 * TAPS**2, TAPS, padding=TAPS // 2)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)
        self.patches = DeformablePatches(map_hw, TAPS)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Both (N, C, H, W) -> (N, C, H, W)."""
        numbers = self.conv_offset(torch.cat([x, reference], 1))
        parts = numbers.split([2 * TAPS**2, TAPS**2], 1)  # offsets, weights
        patches = self.patches(x, parts[0], torch.sigmoid(parts[1]))
        return F.conv2d(patches, self.weight, self.bias, stride=TAPS)


class FeatureFlipFusion(nn.Module):
    """Adds the mirrored map to the map; deformable taps make up for imperfect symmetry."""

    def __init__(self, channels: int, map_hw: tuple[int, int]) -> None:
        super().__init__()
        self.proj1 = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.proj2_conv = DeformableConv(channels, map_hw)
        self.proj2_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        projected = self.proj1(x)
        mirrored = self.proj2_norm(self.proj2_conv(x.flip(3), projected))
        return F.relu(projected + mirrored)


class RowConv(nn.Conv1d):
    """A 1-D convolution, weight (outputs, inputs, k), run as a 2-D one on maps of one row.

    The checkpoint's 3-D weight stays, while graph and quantiser see an ordinary convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, 1, W) -> (N, outputs, 1, W)."""
        return F.conv2d(x, self.weight.unsqueeze(2), self.bias, padding=(0, self.padding[0]))


class ColumnHead(nn.Module):
    """Two 1-D convolutions over the columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden_layers = nn.ModuleList(
            RowConv(channels, channels, 3, padding=1) for _ in range(2)
        )
        self.hidden_norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, 1, W) -> (N, C, 1, W)."""
        for conv, norm in zip(self.hidden_layers, self.hidden_norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x


class BezierLaneNet(nn.Module):
    """Three ResNet stages, dilated blocks, flip fusion, mean over rows, one curve per column.

    Args:
        depth: of the ResNet.
        input_hw: height and width of the input.
        width: channels of the ResNet's first stage.
    """

    def __init__(self, depth: int, input_hw: tuple[int, int], width: int = 64) -> None:
        super().__init__()
        grid = map_hw(input_hw)
        self.columns = grid[1]
        self.backbone = ResNetTrunk(depth, width, strides=(1, 2, 2), dilations=(1, 1, 1))
        channels = self.backbone.channels[-1]
        self.dilated_blocks = nn.Sequential(
            *(DilatedBottleneck(channels, channels // 4, d) for d in DILATIONS)
        )
        self.simple_flip_2d = FeatureFlipFusion(channels, grid)
        self.aggregator = nn.AvgPool2d((grid[0], 1), stride=1)
        self.regression_head = ColumnHead(channels)
        self.proj_classification = RowConv(channels, 1, 1)
        self.proj_regression = RowConv(channels, 2 * CONTROL_POINTS, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"logits": (N, Q), "curves": (N, Q, 4, 2)}; Q columns."""
        x = self.simple_flip_2d(self.dilated_blocks(self.backbone(x)[-1]))
        x = self.regression_head(self.aggregator(x))
        numbers = 2 * CONTROL_POINTS
        curves = self.proj_regression(x).reshape(-1, numbers, self.columns).transpose(1, 2)
        return {
            "logits": self.proj_classification(x).reshape(-1, self.columns),
            "curves": curves.reshape(-1, self.columns, CONTROL_POINTS, 2),
        }


def map_hw(input_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the trunk's last map."""
    return ceil(input_hw[0] / STRIDE), ceil(input_hw[1] / STRIDE)


def _model(
    name: str,
    image: ImageSpec,
    decoder: BezierCurve,
    network: partial[BezierLaneNet],
    metric: Metric,
    origin: Origin,
    demo: bool = False,
) -> LaneModel:
    columns = decoder.columns
    confidence = Confidence("logits", Activation.SIGMOID, threshold=decoder.threshold)
    return LaneModel(
        name=name,
        image=image,
        heads=(
            Head("logits", (columns,), "lane logits", confidence, (0,)),
            Head("curves", (columns, CONTROL_POINTS, 2), "control points", confidence, (0,), 2),
        ),
        decoder=decoder,
        network=partial(network, input_hw=image.input_hw),
        metric=metric,
        origin=origin,
        training_only=("segmentation_head.",),
        demo=demo,
    )


def _official(depth: int, data: str, score: str) -> LaneModel:
    data_set = DATA_SETS[data]
    tusimple = data_set.metric is Metric.TUSIMPLE
    height = data_set.frame_hw[0]
    rows_px = [height - data_set.gap_px * (i + 1) for i in range(data_set.points)]
    decoder = BezierCurve(
        frame_hw=data_set.frame_hw,
        columns=map_hw(data_set.input_hw)[1],
        threshold=0.5 if tusimple else 0.95,
        max_lanes=data_set.max_lanes,
        samples=height if tusimple else 50,
        rows_px=tuple(rows_px) if tusimple else (),
    )
    return _model(
        f"bezierlanenet.r{depth}_{data}",
        data_set.image,
        decoder,
        partial(BezierLaneNet, depth),
        data_set.metric,
        data_set.origin(f"resnet{depth}_bezierlanenet_{data}-aug1b_20211109.pt", score),
    )


# The demo's columns are as wide as two of CULane's official ones, and so is its neighbourhood.
DEMO_IMAGE = ImageSpec(frame_hw=(590, 1640), input_hw=(160, 448))
DEMO_DECODER = BezierCurve(
    frame_hw=DEMO_IMAGE.frame_hw, columns=map_hw(DEMO_IMAGE.input_hw)[1], threshold=0.5, window=5
)

MODELS = (
    _model(
        "bezierlanenet",
        DEMO_IMAGE,
        DEMO_DECODER,
        partial(BezierLaneNet, 18, width=32),
        Metric.CULANE,
        Origin("trt_lane, training/", "Apache-2.0"),
        demo=True,
    ),
    _official(18, "culane", "73.67"),
    _official(34, "culane", "75.57"),
    _official(18, "tusimple", "95.41"),
    _official(34, "tusimple", "95.65"),
    _official(18, "llamas", "95.52"),
    _official(34, "llamas", "96.11"),
)
