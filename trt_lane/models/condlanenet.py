"""CondLaneNet: lanes found at their start points, each drawn by a convolution of its own.

Structure, key names, pre-processing and thresholds follow aliyun/conditional-lane-detection, commit
c57b242 (configs/condlanenet, mmdet/models/necks/trans_fpn.py, dense_heads/condlanenet_head.py).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from trt_lane.decoders.dynamic_mask import DynamicMask
from trt_lane.image import ChannelOrder, ImageSpec
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._attention_fpn import HEAT_MAP_BIAS, AttentionFPN, ConvUnit, branch
from trt_lane.models._dynamic_lanes import (
    CHANNELS,
    KERNEL_PARAMS,
    DynamicLanes,
    KernelCell,
    KernelPredictor,
    PeakSlots,
    RangeMLP,
    at_cells,
)
from trt_lane.models._resnet import ResNetTrunk

TRUNK_STRIDE = 32
HEAT_STRIDE = 16
SEED_CHANNELS = 128  # of the parameter map that the recurrent head unrolls


class TransConvFPN(AttentionFPN):
    """The neck; only the levels that the head reads have an output convolution."""

    def __init__(
        self, inputs: list[int], attention: int, coarse_hw: tuple[int, int], read: tuple[int, ...]
    ) -> None:
        super().__init__(inputs, attention, coarse_hw, CHANNELS)
        self.fpn_convs = nn.ModuleDict({str(i): ConvUnit(CHANNELS, CHANNELS, 3) for i in read})

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Stages -> the levels read, each (N, C, H, W)."""
        levels = self.merge(features)
        return [conv(levels[int(i)]) for i, conv in self.fpn_convs.items()]


class CondLaneHead(nn.Module):
    """One lane per start point (CULane, TuSimple).

    Args:
        decoder: gives the sizes of both maps, the number of slots and the threshold.
        seed_channels: of the parameter map.
        hidden: channels inside the branches of the heat map and the parameter map.
        normed: whether the mask features end in batch norm and ReLU.
    """

    def __init__(
        self,
        decoder: DynamicMask,
        seed_channels: int = KERNEL_PARAMS,
        hidden: int = CHANNELS,
        normed: bool = True,
    ) -> None:
        super().__init__()
        self.mask_branch = nn.Sequential(
            ConvUnit(CHANNELS, CHANNELS, 3, norm=True, relu=True),
            ConvUnit(CHANNELS, CHANNELS, 3, norm=True, relu=True),
            ConvUnit(CHANNELS, CHANNELS, 3, norm=normed, relu=normed),
        )
        self.ctnet_head = nn.ModuleDict(
            {
                "hm": branch(CHANNELS, hidden, 1, HEAT_MAP_BIAS),
                "params": branch(CHANNELS, hidden, seed_channels, 0.0),
            }
        )
        self.seed_channels, self.slots = seed_channels, decoder.slots
        self.mlp = RangeMLP(decoder.mask_hw)
        self.peak_slots = PeakSlots(decoder.heat_hw, decoder.slots, decoder.threshold_logit)
        self.dynamic_lanes = DynamicLanes(decoder.mask_hw)

    def forward(self, fine: Tensor, coarse: Tensor) -> dict[str, Tensor]:
        """Levels of the masks and of the heat map -> heads, lanes by slot (N, K, ...)."""
        logits, params, features = self.maps(fine, coarse)
        peaks, cells = self.peak_slots(logits)
        seeds = at_cells(params, cells, self.seed_channels)
        lanes = self.lanes_at(seeds, features, self.slots)
        return {"hm_logits": logits, "peaks": peaks, **lanes}

    def maps(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Heat map (N, 1, h, w), parameter map (N, ., h, w), mask features (N, C, H, W)."""
        logits = self.ctnet_head["hm"](coarse)
        return logits, self.ctnet_head["params"](coarse), self.mask_branch(fine)

    def lanes_at(self, seeds: Tensor, features: Tensor, lanes: int) -> dict[str, Tensor]:
        """Masks and offsets (N, lanes, H, W), ranges (N, lanes, 2, H) of (N, lanes, 134)."""
        masks, regs = self.dynamic_lanes(seeds, features)
        return {"masks": masks, "regs": regs, "ranges": self.mlp(masks, lanes)}


class CondLaneRNNHead(CondLaneHead):
    """Several lanes per start point (CurveLanes): a recurrent cell gives one kernel per step.

    The original stops at the first state 0; here every step is taken and the decoder stops there.
    """

    def __init__(self, decoder: DynamicMask) -> None:
        super().__init__(decoder, SEED_CHANNELS, hidden=SEED_CHANNELS, normed=False)
        self.steps = decoder.steps
        self.rnn_ceil = KernelCell(SEED_CHANNELS)
        self.final_fc = KernelPredictor(SEED_CHANNELS)

    def lanes_at(self, seeds: Tensor, features: Tensor, lanes: int) -> dict[str, Tensor]:
        """The same per step, (N, lanes, T, ...), and states, of seeds (N, lanes, 128)."""
        x = seeds.reshape(-1, SEED_CHANNELS, 1, 1)
        hidden = cell = torch.zeros_like(x)
        kernels, states = [], []
        for _ in range(self.steps):
            x, cell = self.rnn_ceil(x, hidden, cell)
            hidden = x
            kernel, state = self.final_fc(x)
            kernels.append(kernel)
            states.append(state)
        drawn = lanes * self.steps
        params = torch.stack(kernels, 1).reshape(-1, drawn, KERNEL_PARAMS)
        heads = super().lanes_at(params, features, drawn)
        heads = {k: v.unflatten(1, (lanes, self.steps)) for k, v in heads.items()}
        return {**heads, "states": torch.stack(states, 1).reshape(-1, lanes, self.steps, 2)}


class CondLaneNet(nn.Module):
    """Trunk, neck and head.

    Args:
        depth: of the ResNet trunk.
        decoder: gives the sizes of both maps, the number of slots and the threshold.
        attention: channels of the attention layers.
    """

    def __init__(self, depth: int, decoder: DynamicMask, attention: int) -> None:
        super().__init__()
        self.backbone = ResNetTrunk(depth)
        mask_stride = decoder.input_hw[0] // decoder.mask_hw[0]
        self.first_stage = {4: 0, 8: 1}[mask_stride]
        heat_level = {4: 2, 8: 1}[mask_stride]
        height, width = decoder.input_hw
        self.neck = TransConvFPN(
            self.backbone.channels[self.first_stage :],
            attention,
            (height // TRUNK_STRIDE, width // TRUNK_STRIDE),
            (0, heat_level),
        )
        self.bbox_head = (CondLaneHead if decoder.steps == 1 else CondLaneRNNHead)(decoder)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> heat map (N, 1, h, w) as logits and K slots of lanes."""
        return self.bbox_head(*self.neck(self.backbone(x)[self.first_stage :]))


def _heads(decoder: DynamicMask) -> tuple[Head, ...]:
    heat = Confidence(
        "hm_logits", Activation.SIGMOID, axis=0, classes=(0,), threshold=decoder.threshold
    )
    slot = Confidence("peaks", Activation.SIGMOID, threshold=decoder.threshold)
    return (
        Head("hm_logits", (1, *decoder.heat_hw), "start-point heat map", heat, (1, 2)),
        Head("peaks", (decoder.slots,), "heat of each slot's start point", slot, (0,)),
        *(
            Head(name, decoder.shapes[name], semantics, slot, (0,))
            for name, semantics in (
                ("masks", "column logits of each row"),
                ("regs", "offset within the column"),
                ("ranges", "logits of a row without and with the lane"),
                ("states", "logits of the last and of another lane"),
            )
            if name in decoder.shapes
        ),
    )


_SPEC = partial(
    ImageSpec,
    input_hw=(320, 800),
    mean=(75.3 / 255, 76.6 / 255, 77.6 / 255),
    std=(50.5 / 255, 53.8 / 255, 54.3 / 255),
    order=ChannelOrder.BGR,
)
# CurveLanes mixes three sizes. The official code cuts 640 rows off the 2560x1440 frames, which are
# most of them, but 368 off 1280x720 and 180 off 1570x660: their other views are not covered here.
IMAGES = {
    "culane": _SPEC((590, 1640), crop_top=270),
    "tusimple": _SPEC((720, 1280), crop_top=160),
    "curvelanes": _SPEC((1440, 2560), crop_top=640),
}
# Distance in cells below which start points are one. TuSimple's configurations say 2, but the test
# script does not pass it on, and its published scores come from the default of 3.
NMS_CELLS = {"culane": 4.0, "tusimple": 3.0, "curvelanes": 1.0}
SCORES = {
    "culane": ("78.14", "78.74", "79.48"),
    "tusimple": ("97.01", "96.98", "97.24"),
    "curvelanes": ("85.09", "85.92", "86.10"),
}
SIZES = {"small": 18, "medium": 34, "large": 101}
DATA_NAMES = {"culane": "CULane", "tusimple": "TuSimple", "curvelanes": "CurveLanes"}


def _model(size: str, data: str, score: str) -> LaneModel:
    image, large = IMAGES[data], size == "large"
    # tusimple_large's configuration names a 40x100 mask, with which its own network does not run;
    # its checkpoint was trained with 80x200 like the other large ones (the repository's issue 16).
    stride, attention = (4, 256) if large else (8, 64)
    height, width = image.input_hw
    decoder = DynamicMask(
        frame_hw=image.frame_hw,
        crop_top=image.crop_top,
        input_hw=image.input_hw,
        heat_hw=(height // HEAT_STRIDE, width // HEAT_STRIDE),
        mask_hw=(height // stride, width // stride),
        nms_cells=NMS_CELLS[data],
        steps=6 if data == "curvelanes" else 1,
    )
    return LaneModel(
        name=f"condlanenet.r{SIZES[size]}_{data}",
        image=image,
        heads=_heads(decoder),
        decoder=decoder,
        network=partial(CondLaneNet, SIZES[size], decoder, attention),
        metric=Metric(data),
        origin=Origin(
            "https://github.com/aliyun/conditional-lane-detection",
            "Apache-2.0",
            f"{data}_{size}.pth",
            f"{DATA_NAMES[data]} F1 {score}",
        ),
        training_only=tuple(f"neck.fpn_convs.{i}." for i in ((1, 3) if large else (2,))),
    )


MODELS = tuple(
    _model(size, data, score)
    for data, scores in SCORES.items()
    for size, score in zip(SIZES, scores, strict=True)
)
