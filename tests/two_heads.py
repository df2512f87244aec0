"""A tiny lane detector of two heads, with a layer that INT8 ruins where one is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet
from trt_lane.model import Activation, Confidence, Head, LaneModel

HW, FRAME_HW = (16, 24), (320, 480)
LANES, ROWS = 2, 6
OUTLIER = 3000.0


class TwoHeads(nn.Module):
    """A trunk, a head that says where lanes are and one that says whether.

    Args:
        ruined: "place": the last layer of that head reads a tensor with an outlier that it does not
            use, so that a step per tensor leaves nothing of the rest; "trunk": the heaviest
            convolution does; "": none.
    """

    def __init__(self, ruined: str = ""):
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.body = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 24, 3, 1, 1)
        self.place1, self.place2 = nn.Linear(24 * 24, 12), nn.Linear(12, LANES * ROWS)
        self.exist1, self.exist2 = nn.Linear(24 * 24, 4), nn.Linear(4, LANES)
        with torch.no_grad():
            self.exist2.weight *= 0.1
            self.exist2.bias[:] = 3.0
            self.place1.weight *= 6
            self.place2.weight *= 3
            if ruined == "place":
                self.place1.bias[0], self.place2.weight[:, 0] = OUTLIER, 0
            if ruined == "trunk":
                self.stem.bias[0], self.body.weight[:, 0] = OUTLIER, 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.body(torch.relu(self.stem(x)))).flatten(1)
        place = self.place2(torch.relu(self.place1(x))).unflatten(1, (LANES, ROWS))
        return {"exist": self.exist2(torch.relu(self.exist1(x))), "place": place}


@dataclass(frozen=True)
class TwoHeadsDecoder:
    """x = middle of the lane's half + 20 px per unit, at rows spread over the frame."""

    px: float = 20.0

    def __call__(self, exist: np.ndarray, place: np.ndarray) -> LaneSet:
        rows = np.linspace(300, 100, ROWS)
        middle = np.array([[120.0], [360.0]])
        xs = middle + self.px * place
        points = np.stack(np.broadcast_arrays(xs, rows), axis=-1)
        found = exist > 0
        return LaneSet(points[found], np.ones(int(found.sum())), FRAME_HW)


def two_heads(ruined: str = "") -> tuple[LaneModel, nn.Module]:
    """The description and the network."""
    network = TwoHeads(ruined).eval()
    exists = Confidence("exist", Activation.SIGMOID)
    model = LaneModel(
        name="two_heads",
        image=ImageSpec(FRAME_HW, HW),
        heads=(
            Head("exist", (LANES,), "lane or none", exists, (0,)),
            Head("place", (LANES, ROWS), "columns at rows", exists, (0,)),
        ),
        decoder=TwoHeadsDecoder(),
        network=lambda: network,
    )
    return model, network


def write_frames(folder: Path, count: int = 6) -> str:
    """Blurred noise as pictures; the spec of the data set."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        coarse = rng.integers(0, 256, (8, 12, 3), np.uint8)
        frame = cv2.resize(coarse, FRAME_HW[::-1], interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(str(folder / f"{i}.png"), frame)
    return f"images:{folder}"
