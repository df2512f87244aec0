"""End-to-end Lane Shape Prediction with Transformers (LSTR): seven queries, a curve each.

Structure and key names follow liuruijin17/LSTR, branches main (TuSimple) and culane. At test time
the official code passes a mask of zeros, so that positional encodings are constants; the outputs
of the first decoder layer are for training.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trt_lane.decoders.lstr_curve import LstrCurve
from trt_lane.image import ChannelOrder, ImageSpec
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._resnet import ResNetTrunk
from trt_lane.models._transformer import Transformer, sine_position

TRUNK_STRIDE = 32
QUERIES = 7
LANE_CLASS = 1  # 0 is "none" on TuSimple and unused on CULane, 2 is "none" on CULane


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        sizes = (inputs, hidden, hidden, outputs)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class LSTR(ResNetTrunk):
    """A narrow ResNet, a two-layer transformer, and linear heads.

    Args:
        input_hw: height and width of the input.
        classes: of pred_logits.
    """

    def __init__(self, input_hw: tuple[int, int], classes: int) -> None:
        super().__init__(18, width=16, blocks=(1, 2, 2, 2))
        width = 32
        height_px, width_px = (ceil(side / TRUNK_STRIDE) for side in input_hw)
        self.input_proj = nn.Conv2d(self.channels[-1], width, 1)
        self.query_embed = nn.Embedding(QUERIES, width)
        self.register_buffer(
            "position", sine_position(height_px, width_px, width), persistent=False
        )
        self.transformer = Transformer(
            layers=2,
            width=width,
            heads=2,
            hidden=128,
            queries=QUERIES,
            tokens=height_px * width_px,
        )
        self.class_embed = nn.Linear(width, classes)
        self.specific_embed = Perceptron(width, width, 4)
        self.shared_embed = Perceptron(width, width, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {"pred_logits": (N, 7, classes), "pred_curves": (N, 7, 8)}."""
        features = self.input_proj(super().forward(x)[-1])
        tokens = features.flatten(2).permute(0, 2, 1)  # (N, T, C)
        decoded = self.transformer(tokens, self.query_embed.weight.unsqueeze(0), self.position)
        own = self.specific_embed(decoded)  # lower, upper, b, b' of each lane
        # k, f, m, n depend on the camera only: one value for all lanes of a frame.
        shared = self.shared_embed(decoded).mean(1, keepdim=True).repeat(1, QUERIES, 1)
        curves = torch.cat((own[:, :, :2], shared, own[:, :, 2:]), dim=2)
        return {"pred_logits": self.class_embed(decoded), "pred_curves": curves}


def _model(
    data: str,
    frame_hw: tuple[int, int],
    input_hw: tuple[int, int],
    decoder: LstrCurve,
    checkpoint: str,
    score: str,
) -> LaneModel:
    image = ImageSpec(
        frame_hw=frame_hw,
        input_hw=input_hw,
        mean=(0.40789654, 0.44719302, 0.47026115),
        std=(0.28863828, 0.27408164, 0.27809835),
        order=ChannelOrder.BGR,
    )
    lane = Confidence("pred_logits", Activation.SOFTMAX, axis=1, classes=(LANE_CLASS,))
    return LaneModel(
        name=f"lstr.{data}",
        image=image,
        heads=(
            Head("pred_logits", (QUERIES, decoder.classes), "lane or none", lane, (0,)),
            Head("pred_curves", (QUERIES, 8), "extent and curve parameters", lane, (0,), 1),
        ),
        decoder=decoder,
        network=partial(LSTR, input_hw, decoder.classes),
        metric=Metric(data),
        origin=Origin("https://github.com/liuruijin17/LSTR", "BSD-3-Clause", checkpoint, score),
    )


# Rows are the official test code's: db/tusimple.py (the benchmark's h_samples), db/culane.py.
TUSIMPLE_DECODER = LstrCurve(
    frame_hw=(720, 1280),
    rows_px=tuple(range(710, 150, -10)),
    queries=QUERIES,
    classes=2,
    lane_class=LANE_CLASS,
)
CULANE_DECODER = LstrCurve(
    frame_hw=(590, 1640),
    rows_px=tuple(range(589, 248, -20)),
    queries=QUERIES,
    classes=3,
    lane_class=LANE_CLASS,
    to_bottom=True,
)

MODELS = (
    _model(
        "tusimple",
        TUSIMPLE_DECODER.frame_hw,
        (360, 640),
        TUSIMPLE_DECODER,
        "cache/nnet/LSTR/LSTR_500000.pkl (branch main)",
        "TuSimple accuracy 96.18",
    ),
    _model(
        "culane",
        CULANE_DECODER.frame_hw,
        (295, 820),
        CULANE_DECODER,
        "cache/nnet/LSTR_CULANE/LSTR_CULANE_500000.pkl (branch culane)",
        "CULane F1 64",
    ),
)
