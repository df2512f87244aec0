"""A lane model small enough to train in a test, on the real renderer and the real decoder."""

from __future__ import annotations

import os
import signal
from functools import partial

import numpy as np
from torch import Tensor, nn

from training.data import MAX_POINTS, SLOTS, FrameCache
from training.recipe import TrainingRecipe
from trt_lane.decoders.row_anchor import RowAnchor
from trt_lane.image import ImageSpec
from trt_lane.model import Activation, Confidence, Head, LaneModel

IMAGE = ImageSpec(frame_hw=(590, 1640), input_hw=(32, 96), crop_top=190)
DECODER = RowAnchor((590, 1640), tuple(range(270, 591, 40)), cells=24, lanes=4, cell_px=1640 / 24)
RECIPE = TrainingRecipe(
    frames=8, validation_frames=4, validations=2, steps=20, batch=8, learning_rate=5e-3
)


class TinyNetwork(nn.Module):
    """One convolution, batch norm and a linear layer; can send Ctrl-C in the midst of a step."""

    def __init__(self, interrupt_at: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(8 * 8 * 24, int(np.prod(DECODER.head_shape)))
        self.calls, self.interrupt_at = 0, interrupt_at

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, 32, 96) -> {"logits": (N, G + 1, R, L)}."""
        if self.training:
            self.calls += 1
            if self.calls == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)
        return {"logits": self.head(self.features(x).flatten(1)).view(-1, *DECODER.head_shape)}


def tiny_model(interrupt_at: int | None = None, dropout: float = 0.0) -> LaneModel:
    confidence = Confidence("logits", Activation.SOFTMAX, 0, (DECODER.cells,), True)
    head = Head("logits", DECODER.head_shape, "location logits", confidence, (1, 2))
    return LaneModel("tiny", IMAGE, (head,), DECODER, partial(TinyNetwork, interrupt_at, dropout))


def straight_lanes(*columns: tuple[float, float] | None) -> np.ndarray:
    """Lanes (S, P, 2) by slot from (x at row 590, x at row 250), a point every 10 rows."""
    lanes = np.full((SLOTS, MAX_POINTS, 2), np.nan, np.float32)
    rows = np.arange(590, 249, -10)
    for lane, ends in zip(lanes, columns, strict=True):
        if ends is not None:
            lane[: len(rows), 0] = np.interp(rows, [250, 590], [ends[1], ends[0]])
            lane[: len(rows), 1] = rows
    return lanes


def made_up_frames(count: int = 8) -> FrameCache:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 255, (count, *IMAGE.input_hw, 3), np.uint8)
    lanes = []
    for _ in range(count):
        x = rng.uniform(100, 1500, 3)
        lanes.append(straight_lanes(None, (x[0], 800), (x[1], 820), (x[2], 840)))
    return FrameCache(None, ((pixels, np.stack(lanes)),), count)
