"""LaneATT: features along straight anchor lines, each line attending to all others.

Structure, key names, anchors and pre-processing follow lucastabelini/LaneATT, commit 2f8583b
(lib/models/laneatt.py, lib/datasets/lane_dataset.py, cfgs/).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from trt_lane.decoders.line_anchor import LineAnchor
from trt_lane.errors import TrtLaneError
from trt_lane.image import ChannelOrder, ImageSpec, Resampling
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._cifar_resnet import STRIDE, WIDTHS, CifarResNet
from trt_lane.models._line_anchors import LineAnchors
from trt_lane.models._line_attention import OFFSETS, LaneATT
from trt_lane.models._resnet import ResNetTrunk

SOURCE = "https://github.com/lucastabelini/LaneATT"


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
    if not torch.isfinite(counts).all():
        raise TrtLaneError(f"{path} holds NaN or infinity; expected counts; {mend}")
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
    demo: bool = False,
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
        demo=demo,
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
# Image, decoder with the test_parameters of cfgs/, metric, epochs.
DATA_SETS = {
    "culane": (CULANE, _decoder(CULANE), Metric.CULANE, 15),
    "tusimple": (
        TUSIMPLE,
        _decoder(TUSIMPLE, threshold=0.2, distance_px=45, max_lanes=5),
        Metric.TUSIMPLE,
        100,
    ),
    "llamas": (LLAMAS, _decoder(LLAMAS), Metric.LLAMAS, 15),
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
        _decoder(DEMO_IMAGE, anchors=len(LineAnchors.around(*DEMO_ORIGINS)), distance_px=40),
        DEMO_ORIGINS,
        Origin("trt_lane, training/", "Apache-2.0"),
        demo=True,
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
