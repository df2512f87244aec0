"""LaneATT: features along straight anchor lines, each line attending to all others.

Structure, key names, anchors and pre-processing follow lucastabelini/LaneATT, commit 2f8583b
(lib/models/laneatt.py, lib/datasets/lane_dataset.py, cfgs/).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trt_lane.decoders.line_anchor import LineAnchor
from trt_lane.errors import TrtLaneError
from trt_lane.image import ChannelOrder, ImageSpec, Resampling
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._cifar_resnet import STRIDE, WIDTHS, CifarResNet
from trt_lane.models._line_anchors import LineAnchors
from trt_lane.models._resnet import ResNetTrunk

SOURCE = "https://github.com/lucastabelini/LaneATT"
CHANNELS = 64  # of the features that a line collects on every row
OFFSETS = 72


class LaneATT(nn.Module):
    """Line-anchor detector with attention between the lines.

    Args:
        features: (N, 3, H, W) -> (N, C, h, w).
        channels: C.
        stride: of `features`; lines cross H // stride rows of its map.
        input_hw: H, W.
        candidates: lines to choose the anchors from.
        count: anchors A. Until `choose` is called they are spread evenly over the candidates.
    """

    def __init__(
        self,
        features: nn.Module,
        channels: int,
        stride: int,
        input_hw: tuple[int, int],
        candidates: LineAnchors,
        count: int,
    ) -> None:
        super().__init__()
        self.map_hw = (input_hw[0] // stride, input_hw[1] // stride)
        self.stride = stride
        self.width = input_hw[1]
        self.candidates = candidates
        self.count = count
        self.line_features = CHANNELS * self.map_hw[0]
        self.feature_extractor = features
        self.conv1 = nn.Conv2d(channels, CHANNELS, 1)
        self.cls_layer = nn.Linear(2 * self.line_features, 2)
        self.reg_layer = nn.Linear(2 * self.line_features, 1 + OFFSETS)
        self.attention_layer = nn.Linear(self.line_features, count - 1)
        # Not in the state dict: the official one has no anchors.
        self.register_buffer("extents", torch.zeros(count, 3), persistent=False)
        self.register_buffer("xs", torch.zeros(count, OFFSETS), persistent=False)
        self.register_buffer("is_length", torch.tensor([0.0, 0.0, 1.0]), persistent=False)
        cells = torch.zeros(count * self.map_hw[0], dtype=torch.int64)
        self.register_buffer("cells", cells, persistent=False)
        self.choose(np.linspace(0, len(candidates) - 1, count).round().astype(np.int64))

    def choose(self, order: np.ndarray) -> None:
        """Take these candidates, int64 (A,), as anchors, in this order."""
        anchors = self.candidates.chosen(order)
        self.extents.copy_(torch.from_numpy(anchors.extents()))
        self.xs.copy_(torch.from_numpy(anchors.xs(OFFSETS, self.width)))
        cells = anchors.cells(self.map_hw, self.stride).reshape(-1)
        self.cells.copy_(torch.from_numpy(cells))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> cls (N, A, 2), extent (N, A, 3), xs (N, A, S)."""
        lines = self.collect(self.conv1(self.feature_extractor(x)))  # (N * A, D)
        attention = self.attend(lines)  # (N, A, A)
        context = attention @ lines.reshape(-1, self.count, self.line_features)
        joined = torch.cat([context.reshape(-1, self.line_features), lines], dim=1)
        reg = self.reg_layer(joined).reshape(-1, self.count, 1 + OFFSETS)
        return {
            "cls": self.cls_layer(joined).reshape(-1, self.count, 2),
            "extent": reg[:, :, :1] * self.is_length + self.extents,
            "xs": reg[:, :, 1:] + self.xs,
        }

    def collect(self, features: Tensor) -> Tensor:
        """Features (N, C, h, w) along every line, zero outside the map: (N * A, C * h)."""
        # The stride's remainder gives the trunk one more row, which no line crosses.
        cells = features[:, :, : self.map_hw[0], : self.map_hw[1]].flatten(2)
        # One zero after the last cell stands for all outside it: a gather with constant indices.
        cells = torch.cat([cells, cells[:, :, :1] * 0], dim=2).index_select(2, self.cells)
        cells = cells.reshape(-1, CHANNELS, self.count, self.map_hw[0])
        return cells.permute(0, 2, 1, 3).reshape(-1, self.line_features)

    def attend(self, lines: Tensor) -> Tensor:
        """Weights of the other lines for each line, zero for itself: (N, A, A) from (N * A, D)."""
        weights = self.attention_layer(lines).softmax(dim=1)  # (N * A, A - 1)
        # The diagonal of a flat A x A matrix is its first and then every (A + 1)th entry, so rows
        # of A entries, a zero after each and one before all put every weight into its place.
        weights = weights.reshape(-1, self.count - 1, self.count)
        zeros = weights[:, :, :1] * 0
        weights = torch.cat([weights, zeros], dim=2).flatten(1)
        weights = torch.cat([zeros[:, 0], weights], dim=1)
        return weights.reshape(-1, self.count, self.count)


def read_frequencies(module: LaneATT, folder: Path, name: str) -> None:
    """Choose the anchors that the data set's lanes match most often, as the official code does.

    The checkpoint does not hold them; the repository's data/`name` counts them.
    """
    path = folder / name
    mend = f"copy data/{name} of {SOURCE} beside the checkpoint"
    if not path.is_file():
        raise TrtLaneError(f"no file {path}, by which the checkpoint's anchors are ordered; {mend}")
    try:
        counts = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes can raise anything in an unpickler.
        raise TrtLaneError(
            f"{path} cannot be read as a tensor ({type(error).__name__}); {mend}"
        ) from None
    expected = len(module.candidates)
    if not isinstance(counts, Tensor) or counts.shape != (expected,):
        found = tuple(counts.shape) if isinstance(counts, Tensor) else type(counts).__name__
        raise TrtLaneError(f"{path} holds {found}; expected ({expected},) counts; {mend}")
    # Equal counts fall as torch's sort has them, unstable as in the official code.
    order = torch.argsort(counts, descending=True)[: module.count]
    module.choose(order.numpy())


def _resnet(depth: int, width: int = 64, strides: tuple[int, ...] = (1, 2, 2, 2)) -> nn.Sequential:
    """The trunk under the official keys: positions in a Sequential."""
    trunk = ResNetTrunk(depth, width, strides)
    stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
    return nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, *stages)


# Maker, channels and stride of each trunk.
BACKBONES = {
    "r18": (partial(_resnet, 18), 512, 32),
    "r34": (partial(_resnet, 34), 512, 32),
    "r122": (partial(CifarResNet, 20), WIDTHS[-1], STRIDE),
    # The demo's: half as wide, and no stride before the last stage of its small map.
    "demo": (partial(_resnet, 18, 32, (1, 2, 2, 1)), 256, 16),
}


def _network(
    backbone: str, input_hw: tuple[int, int], origins: tuple[int, int], count: int
) -> LaneATT:
    make, channels, stride = BACKBONES[backbone]
    return LaneATT(make(), channels, stride, input_hw, LineAnchors.around(*origins), count)


def _model(
    name: str,
    backbone: str,
    image: ImageSpec,
    decoder: LineAnchor,
    origins: tuple[int, int],
    origin: Origin,
    metric: Metric = Metric.CULANE,
) -> LaneModel:
    lane = Confidence(
        "cls",
        Activation.SOFTMAX,
        axis=1,
        classes=(0,),
        of_background=True,
        threshold=decoder.threshold,
    )
    count = decoder.anchors
    return LaneModel(
        name=name,
        image=image,
        heads=(
            Head("cls", (count, 2), "class logits", lane, (0,)),
            Head("extent", (count, 3), "start y, start x, length", lane, (0,), channel_axis=1),
            Head("xs", (count, OFFSETS), "x in input pixels", lane, (0,)),
        ),
        decoder=decoder,
        network=partial(_network, backbone, image.input_hw, origins, count),
        metric=metric,
        origin=origin,
    )


def _decoder(image: ImageSpec, anchors: int = 1000, **numbers: float) -> LineAnchor:
    return LineAnchor(
        frame_hw=image.frame_hw,
        anchors=anchors,
        offsets=OFFSETS,
        extent_channels=3,
        x_full=image.input_hw[1],
        x_px=1,
        length_strips=1,
        crop_top=image.crop_top,
        **numbers,
    )


def _image(frame_hw: tuple[int, int]) -> ImageSpec:
    """The whole frame as OpenCV reads it, scaled to [0, 1] only (lane_dataset.py)."""
    return ImageSpec(
        frame_hw,
        input_hw=(360, 640),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        order=ChannelOrder.BGR,
        resampling=Resampling.CUBIC,
    )


CULANE, TUSIMPLE, LLAMAS = _image((590, 1640)), _image((720, 1280)), _image((717, 1276))
# Image, decoder with the test_parameters of cfgs/, metric, epochs. LLAMAS' own score is CULane's.
DATA_SETS = {
    "culane": (CULANE, _decoder(CULANE), Metric.CULANE, 15),
    "tusimple": (
        TUSIMPLE,
        _decoder(TUSIMPLE, threshold=0.2, distance_px=45, max_lanes=5),
        Metric.TUSIMPLE,
        100,
    ),
    "llamas": (LLAMAS, _decoder(LLAMAS), Metric.CULANE, 15),
}


def _official(backbone: str, data: str, score: str) -> LaneModel:
    image, decoder, metric, epochs = DATA_SETS[data]
    checkpoint = f"laneatt_{backbone}_{data}/models/model_{epochs:04}.pt"
    model = _model(
        f"laneatt.{backbone}_{data}",
        backbone,
        image,
        decoder,
        (72, 128),
        Origin(SOURCE, "MIT", checkpoint, score),
        metric,
    )
    companions = partial(read_frequencies, name=f"{data}_anchors_freq.pt")
    return replace(model, companions=companions)


# The demo sees the road below the sky; its anchors are fewer, and all that its rule makes.
DEMO_IMAGE = ImageSpec(frame_hw=(590, 1640), input_hw=(128, 512), crop_top=190)
DEMO_ORIGINS = (24, 32)

MODELS = (
    _model(
        "laneatt",
        "demo",
        DEMO_IMAGE,
        _decoder(DEMO_IMAGE, anchors=len(LineAnchors.around(*DEMO_ORIGINS))),
        DEMO_ORIGINS,
        Origin("trt_lane, training/", "Apache-2.0"),
    ),
    _official("r18", "culane", "CULane F1 75.08"),
    _official("r34", "culane", "CULane F1 76.66"),
    _official("r122", "culane", "CULane F1 77.02"),
    _official("r18", "tusimple", "TuSimple F1 96.71, accuracy 95.57"),
    _official("r34", "tusimple", "TuSimple F1 96.77, accuracy 95.63"),
    _official("r122", "tusimple", "TuSimple F1 96.06, accuracy 96.10"),
    _official("r18", "llamas", "LLAMAS F1 93.46"),
    _official("r34", "llamas", "LLAMAS F1 93.74"),
    _official("r122", "llamas", "LLAMAS F1 93.54"),
)
