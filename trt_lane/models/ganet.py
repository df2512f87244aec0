"""GANet: key points of lanes, each with the offset to the root of its lane.

Structure, key names, pre-processing and thresholds follow Wolfwjs/GANet, commit 8685a61
(configs/*/final_exp_*.py, mmdet/models/necks/dcn_fpn.py, dense_heads/ganet_head.py).
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from trt_lane.decoders.keypoint_grouping import KeypointGrouping
from trt_lane.image import ChannelOrder, ImageSpec
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._attention_fpn import HEAT_MAP_BIAS, AttentionFPN, ConvUnit, branch
from trt_lane.models._lane_points import LanePoints
from trt_lane.models._resnet import ResNetTrunk

CHANNELS = 64
TRUNK_STRIDE = 32


class DeformFPN(AttentionFPN):
    """The neck; of its levels only the finest is read, once before and once after aggregation."""

    def __init__(
        self,
        inputs: list[int],
        attention: int,
        input_hw: tuple[int, int],
        stride: int,
        features: int,
        points: int,
    ) -> None:
        coarse_hw = (input_hw[0] // TRUNK_STRIDE, input_hw[1] // TRUNK_STRIDE)
        super().__init__(inputs, attention, coarse_hw, CHANNELS)
        grid_hw = (input_hw[0] // stride, input_hw[1] // stride)
        self.def_convs = nn.ModuleList([LanePoints(CHANNELS, features, points, grid_hw)])
        self.fpn_convs = nn.ModuleList([ConvUnit(CHANNELS, CHANNELS, 3)])

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Stages -> features of the heat maps and of the offsets, both (N, C, H, W)."""
        level = self.merge(features)[0]
        return self.fpn_convs[0](self.def_convs[0](level)), level


class KeypointHead(nn.Module):
    """Heat maps from the aggregated features, offsets from the plain ones.

    The official inference computes the heat map of centres (trained with weight 0) and reads it
    nowhere; the official variants keep it, so that every official output exists.
    """

    def __init__(self, centres: bool) -> None:
        super().__init__()
        hm = partial(branch, CHANNELS, CHANNELS, 1, HEAT_MAP_BIAS)
        self.keypts_head = nn.ModuleDict({"hm": hm()})
        self.centerpts_head = nn.ModuleDict({"hm": hm()}) if centres else None
        self.offset_head = nn.ModuleDict({"offset_map": branch(CHANNELS, CHANNELS, 2, 0.0)})
        self.reg_head = nn.ModuleDict({"offset_map": branch(CHANNELS, CHANNELS, 2, 0.0)})

    def forward(self, aggregated: Tensor, level: Tensor) -> dict[str, Tensor]:
        """Two (N, C, H, W) -> logits (N, 1, H, W) and offsets (N, 2, H, W), x first."""
        heads = {
            "kpts_hm_logits": self.keypts_head["hm"](aggregated),
            "pts_offset": self.offset_head["offset_map"](level),
            "int_offset": self.reg_head["offset_map"](level),
        }
        if self.centerpts_head is not None:
            heads["cpts_hm_logits"] = self.centerpts_head["hm"](aggregated)
        return heads


class GANet(nn.Module):
    """Trunk, neck and head.

    Args:
        depth: of the ResNet trunk.
        input_hw: height and width of the input, multiples of 32.
        stride: of the heat maps, 8 or 4.
        points: taps of the lane-aware aggregator.
        attention: channels of the attention layers.
        width: channels of the trunk's first stage.
        features: channels inside the aggregator.
        centres: whether there is a heat map of centres.
    """

    def __init__(
        self,
        depth: int,
        input_hw: tuple[int, int],
        stride: int = 8,
        points: int = 7,
        attention: int = 64,
        width: int = 64,
        features: int = 256,
        centres: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = ResNetTrunk(depth, width)
        self.first_stage = {4: 0, 8: 1}[stride]
        inputs = self.backbone.channels[self.first_stage :]
        self.neck = DeformFPN(inputs, attention, input_hw, stride, features, points)
        self.bbox_head = KeypointHead(centres)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> heat maps (N, 1, h, w) as logits and offsets (N, 2, h, w) in cells."""
        return self.bbox_head(*self.neck(self.backbone(x)[self.first_stage :]))


def _model(
    name: str,
    image: ImageSpec,
    decoder: KeypointGrouping,
    network: partial[GANet],
    metric: Metric,
    origin: Origin,
    training_only: tuple[str, ...] = (),
    demo: bool = False,
) -> LaneModel:
    confidence = Confidence(
        "kpts_hm_logits",
        Activation.SIGMOID,
        axis=0,
        classes=(0,),
        threshold=decoder.keypoint_threshold,
    )
    heat_shape, offset_shape = (1, *decoder.heat_hw), (2, *decoder.heat_hw)
    heads = [
        Head("kpts_hm_logits", heat_shape, "key-point heat map", confidence, (1, 2)),
        Head("pts_offset", offset_shape, "offset to the lane's root", confidence, (1, 2), 0),
        Head("int_offset", offset_shape, "sub-cell offset", confidence, (1, 2), 0),
    ]
    if network.keywords.get("centres", True):
        heads.append(Head("cpts_hm_logits", heat_shape, "centre heat map, not decoded"))
    return LaneModel(
        name=name,
        image=image,
        heads=tuple(heads),
        decoder=decoder,
        network=partial(network, input_hw=image.input_hw),
        metric=metric,
        origin=origin,
        training_only=training_only,
        demo=demo,
    )


_SPEC = partial(
    ImageSpec,
    mean=(75.3 / 255, 76.6 / 255, 77.6 / 255),
    std=(50.5 / 255, 53.8 / 255, 54.3 / 255),
    order=ChannelOrder.BGR,
)
CULANE_IMAGE = _SPEC((590, 1640), (320, 800), crop_top=270)
TUSIMPLE_IMAGE = _SPEC((720, 1280), (320, 800), crop_top=160)
# The demo sees the road below the sky; the horizon of CULane's frames is around row 260.
DEMO_IMAGE = _SPEC((590, 1640), (160, 448), crop_top=210)


def _decoder(image: ImageSpec, stride: int, **numbers: float) -> KeypointGrouping:
    return KeypointGrouping(
        frame_hw=image.frame_hw,
        crop_top=image.crop_top,
        input_hw=image.input_hw,
        heat_hw=(image.input_hw[0] // stride, image.input_hw[1] // stride),
        **numbers,
    )


# By data set and stride: configs/<data set>/test_common_s<stride>.py. A lane has more than
# points_thr points; cluster_thr is not read when there is a cluster_by_center_thr.
DECODERS = {
    ("culane", 8): _decoder(
        CULANE_IMAGE, 8, keypoint_threshold=0.4, min_points=11, root_distance=5.0
    ),
    ("culane", 4): _decoder(
        CULANE_IMAGE, 4, keypoint_threshold=0.3, min_points=21, root_distance=10.0
    ),
    ("tusimple", 8): _decoder(
        TUSIMPLE_IMAGE, 8, keypoint_threshold=0.3, min_points=8, root_distance=4.0
    ),
    ("tusimple", 4): _decoder(
        TUSIMPLE_IMAGE, 4, keypoint_threshold=0.3, min_points=7, root_distance=6.0
    ),
}


def _official(depth: int, data: str, score: str) -> LaneModel:
    large = depth == 101
    sizes = {"stride": 4, "points": 9, "attention": 256} if large else {}
    stride, levels = (4, 4) if large else (8, 3)
    # Never read at inference: the coarser levels' outputs, and the aggregator's refinement.
    unused = tuple(
        f"neck.{part}.{i}." for part in ("def_convs", "fpn_convs") for i in range(1, levels)
    )
    return _model(
        f"ganet.r{depth}_{data}",
        CULANE_IMAGE if data == "culane" else TUSIMPLE_IMAGE,
        DECODERS[data, stride],
        partial(GANet, depth, **sizes),
        Metric(data),
        Origin(
            "https://github.com/Wolfwjs/GANet",
            "MIT",
            f"ganet_{data}_resnet{depth}.pth",
            f"{'CULane' if data == 'culane' else 'TuSimple'} F1 {score}",
        ),
        (*unused, "neck.def_convs.0.reppoints_pts_refine"),
    )


MODELS = (
    _model(
        "ganet",
        DEMO_IMAGE,
        _decoder(
            DEMO_IMAGE,
            8,
            keypoint_threshold=0.4,
            min_points=3,
            root_distance=4.0,
            # A lane that the frame's lower edge cuts has its root at the end of the last row: a
            # whole row down, which at the official 1 a hair decides.
            root_rows=1.5,
            whole_pixels=False,
        ),
        partial(GANet, 18, points=5, width=32, features=64, centres=False),
        Metric.CULANE,
        Origin("trt_lane, training/", "Apache-2.0"),
        demo=True,
    ),
    _official(18, "culane", "78.79"),
    _official(34, "culane", "79.39"),
    _official(101, "culane", "79.63"),
    _official(18, "tusimple", "97.71"),
    _official(34, "tusimple", "97.68"),
    _official(101, "tusimple", "97.45"),
)
