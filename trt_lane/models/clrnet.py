"""CLRNet: lines refined from the coarsest map of a pyramid to the finest.

Structure, key names, thresholds and pre-processing follow Turoad/CLRNet, commit 7269e9d
(clrnet/models/, configs/clrnet/).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from trt_lane.decoders.line_anchor import LineAnchor
from trt_lane.image import ChannelOrder, ImageSpec, Resampling
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._dla import DLA34
from trt_lane.models._line_refinement import CHANNELS, GEOMETRY, LINES, OFFSETS, RefinementHead
from trt_lane.models._resnet import ResNetTrunk

INPUT_HW = (320, 800)


class Pyramid(nn.Module):
    """Top-down feature pyramid over the last three maps of the trunk."""

    def __init__(self, inputs: list[int]) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_Unit(c, 1) for c in inputs)
        self.fpn_convs = nn.ModuleList(_Unit(CHANNELS, 3) for _ in inputs)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps, finest first -> maps of CHANNELS channels, coarsest first."""
        merged, above = [], None
        for i in reversed(range(len(self.lateral_convs))):
            level = self.lateral_convs[i](features[i])
            if above is not None:
                level = level + F.interpolate(above, scale_factor=2.0, mode="nearest")
            merged.append(self.fpn_convs[i](level))
            above = level
        return merged


class _Unit(nn.Module):
    """A convolution under the key that the official code's wrapper gives it."""

    def __init__(self, inputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, CHANNELS, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class CLRNet(nn.Module):
    """Trunk, pyramid and refinement head.

    Args:
        trunk: (N, 3, H, W) -> maps of stride 4, 8, 16 and 32; has `channels`.
        input_hw: H, W.
    """

    def __init__(self, trunk: Callable[[], nn.Module], input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.model = trunk()
        self.neck = Pyramid(list(self.backbone.model.channels[1:]))
        self.heads = RefinementHead(input_hw)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> cls (N, A, 2), extent (N, A, 4), xs (N, A, S)."""
        return self.heads(self.neck(self.backbone.model(x)[1:]))


TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "r18": partial(ResNetTrunk, 18),
    "r34": partial(ResNetTrunk, 34),
    "r101": partial(ResNetTrunk, 101),
    "dla34": DLA34,
}


def _image(frame_hw: tuple[int, int], crop_top: int) -> ImageSpec:
    """The road below the sky as OpenCV reads it, scaled to [0, 1] only: img_norm goes unused."""
    return ImageSpec(
        frame_hw,
        INPUT_HW,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        order=ChannelOrder.BGR,
        crop_top=crop_top,
        resampling=Resampling.CUBIC,
    )


# Image, metric, lanes and classes of the segmentation that helps training, of the configurations.
DATA_SETS = {
    "culane": (_image((590, 1640), 270), Metric.CULANE, 4, 4 + 1),
    "tusimple": (_image((720, 1280), 160), Metric.TUSIMPLE, 5, 6 + 1),
    "llamas": (_image((717, 1276), 300), Metric.LLAMAS, 4, 4 + 1),
}


def _model(
    trunk: str, data: str, score: str, threshold: float = 0.4, distance_px: float = 50
) -> LaneModel:
    image, metric, lanes, classes = DATA_SETS[data]
    lane = Confidence(
        "cls", Activation.SOFTMAX, axis=1, classes=(0,), of_background=True, threshold=threshold
    )
    return LaneModel(
        name=f"clrnet.{trunk}_{data}",
        image=image,
        heads=(
            Head("cls", (LINES, 2), "class logits", lane, (0,)),
            Head(
                "extent",
                (LINES, GEOMETRY + 1),
                "start y, start x, angle, length",
                lane,
                (0,),
                channel_axis=1,
            ),
            Head("xs", (LINES, OFFSETS), "x as a fraction of the width", lane, (0,)),
        ),
        decoder=LineAnchor(
            frame_hw=image.frame_hw,
            anchors=LINES,
            offsets=OFFSETS,
            extent_channels=GEOMETRY + 1,
            x_full=1,
            x_px=INPUT_HW[1] - 1,
            length_strips=OFFSETS - 1,
            crop_top=image.crop_top,
            threshold=threshold,
            inclusive=True,
            distance_px=distance_px,
            max_lanes=lanes,
        ),
        network=partial(CLRNet, TRUNKS[trunk], INPUT_HW),
        metric=metric,
        origin=Origin(
            "https://github.com/Turoad/CLRNet", "Apache-2.0", f"{data}_{trunk}.pth", score
        ),
        training_only=(
            # The checkpoint's `priors` are what the embeddings last gave.
            "heads.prior_embeddings.",
            "heads.seg_decoder.",
            "heads.criterion.",
            # DLA-34's deeper trees compute these and read them nowhere.
            "backbone.model.level3.project.",
            "backbone.model.level4.project.",
        ),
        # All else is alike for every data set, and this for CULane and LLAMAS.
        training_shapes={
            "heads.criterion.weight": (classes,),
            "heads.seg_decoder.conv.bias": (classes,),
        },
    )


MODELS = (
    _model("r18", "culane", "CULane F1 79.58"),
    _model("r34", "culane", "CULane F1 79.73"),
    _model("r101", "culane", "CULane F1 80.13"),
    _model("dla34", "culane", "CULane F1 80.47"),
    _model("r18", "tusimple", "TuSimple F1 97.89, accuracy 96.84"),
    _model("r34", "tusimple", "TuSimple F1 97.82, accuracy 96.87"),
    _model("r101", "tusimple", "TuSimple F1 97.62, accuracy 96.83"),
    _model("r18", "llamas", "LLAMAS F1 96.00", threshold=0.45, distance_px=60),
    _model("dla34", "llamas", "LLAMAS F1 96.12", threshold=0.45),
)
