"""Ultra Fast Structure-aware Deep Lane Detection (UFLD): ResNet trunk, two linear layers.

Structure, key names, anchors and pre-processing follow cfzd/Ultra-Fast-Lane-Detection, commit
353df10 (model/model.py, data/constant.py, demo.py, evaluation/eval_wrapper.py).
"""

from __future__ import annotations

from functools import partial
from math import ceil, prod

from torch import Tensor, nn

from trt_lane.decoders.row_anchor import RowAnchor
from trt_lane.image import ImageSpec, Resampling
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._resnet import ResNetTrunk

TRUNK_STRIDE = 32


class UFLD(nn.Module):
    """Row-anchor classifier: a location among G cells, or no lane, for each row and lane.

    Args:
        depth: of the ResNet trunk.
        input_hw: height and width of the input; the first linear layer depends on it.
        head_shape: (G + 1, R, L).
        width: channels of the trunk's first stage.
        pooled: channels that the 1x1 convolution before the linear layers keeps.
        hidden: width of the linear layers.
    """

    def __init__(
        self,
        depth: int,
        input_hw: tuple[int, int],
        head_shape: tuple[int, int, int],
        width: int = 64,
        pooled: int = 8,
        hidden: int = 2048,
    ) -> None:
        super().__init__()
        self.head_shape = head_shape
        self.model = ResNetTrunk(depth, width)
        self.pool = nn.Conv2d(self.model.channels[-1], pooled, 1)
        features = pooled * prod(ceil(side / TRUNK_STRIDE) for side in input_hw)
        self.cls = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, prod(head_shape))
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"logits": (N, G + 1, R, L)}."""
        pooled = self.pool(self.model(x)[-1]).flatten(1)
        return {"logits": self.cls(pooled).view(-1, *self.head_shape)}


def _model(
    name: str,
    image: ImageSpec,
    decoder: RowAnchor,
    network: partial[UFLD],
    metric: Metric,
    origin: Origin,
    demo: bool = False,
) -> LaneModel:
    confidence = Confidence(
        "logits", Activation.SOFTMAX, axis=0, classes=(decoder.cells,), of_background=True
    )
    head = Head("logits", decoder.head_shape, "location logits", confidence, (1, 2))
    return LaneModel(
        name=name,
        image=image,
        heads=(head,),
        decoder=decoder,
        network=partial(network, input_hw=image.input_hw, head_shape=decoder.head_shape),
        metric=metric,
        origin=origin,
        training_only=("aux_header2.", "aux_header3.", "aux_header4.", "aux_combine."),
        demo=demo,
    )


# The demo sees the road below the sky; labels are CULane's, a location is the middle of its cell.
DEMO_IMAGE = ImageSpec(frame_hw=(590, 1640), input_hw=(128, 512), crop_top=190)
DEMO_DECODER = RowAnchor(
    frame_hw=DEMO_IMAGE.frame_hw,
    rows_px=tuple(range(250, 591, 20)),
    cells=100,
    lanes=4,
    cell_px=DEMO_IMAGE.frame_hw[1] / 100,
    # Of 18 rows; on calibration frames the lanes of fewer (officially 3) are mostly made up.
    min_points=6,
)

OFFICIAL_INPUT_HW = (288, 800)
# Anchors are rows of the 288-row network input; the last pixel of the 800-column input ends the
# grid, so its pitch is 799 / (G - 1) input pixels.
CULANE_ANCHORS = (
    *(121, 131, 141, 150, 160, 170, 180, 189, 199),
    *(209, 219, 228, 238, 248, 258, 267, 277, 287),
)
CULANE_IMAGE = ImageSpec((590, 1640), OFFICIAL_INPUT_HW, resampling=Resampling.ANTIALIASED)
CULANE_DECODER = RowAnchor(
    frame_hw=CULANE_IMAGE.frame_hw,
    rows_px=tuple(590 * anchor / 288 - 1 for anchor in CULANE_ANCHORS),
    cells=200,
    lanes=4,
    cell_px=799 / 199 * 1640 / 800,
    cell_offset=1.0,
    x_offset_px=-1.0,
)
# 64, 68, ... 284 of 288 rows; unlike CULane's, TuSimple's official grid ends at the frame's width.
TUSIMPLE_IMAGE = ImageSpec((720, 1280), OFFICIAL_INPUT_HW, resampling=Resampling.ANTIALIASED)
TUSIMPLE_DECODER = RowAnchor(
    frame_hw=TUSIMPLE_IMAGE.frame_hw,
    rows_px=tuple(range(160, 711, 10)),
    cells=100,
    lanes=4,
    cell_px=1280 / 99,
)


def _official(name: str, depth: int, data: str, checkpoint: str, score: str) -> LaneModel:
    culane = data == "culane"
    return _model(
        f"ufld.{name}_{data}",
        CULANE_IMAGE if culane else TUSIMPLE_IMAGE,
        CULANE_DECODER if culane else TUSIMPLE_DECODER,
        partial(UFLD, depth),
        Metric(data),
        Origin("https://github.com/cfzd/Ultra-Fast-Lane-Detection", "MIT", checkpoint, score),
    )


# The authors publish the ResNet-18 checkpoints; ResNet-34 figures are the paper's.
MODELS = (
    _model(
        "ufld",
        DEMO_IMAGE,
        DEMO_DECODER,
        partial(UFLD, 18, width=32, pooled=16, hidden=320),
        Metric.CULANE,
        Origin("trt_lane, training/", "Apache-2.0"),
        demo=True,
    ),
    _official("r18", 18, "culane", "culane_18.pth", "CULane F1 68.4"),
    _official("r34", 34, "culane", "", "CULane F1 72.3"),
    _official("r18", 18, "tusimple", "tusimple_18.pth", "TuSimple accuracy 95.87"),
    _official("r34", 34, "tusimple", "", "TuSimple accuracy 96.06"),
)
