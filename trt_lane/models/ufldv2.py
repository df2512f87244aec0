"""Ultra Fast Lane Detection v2: ResNet trunk, locations on row anchors and on column anchors.

Structure, key names, anchors and pre-processing follow cfzd/Ultra-Fast-Lane-Detection-v2, commit
c903880 (model/model_culane.py, model/model_curvelanes.py, configs/, utils/common.py).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from trt_lane.decoders.row_column_anchor import Refit, RowColumnAnchor
from trt_lane.image import ImageSpec, Resampling
from trt_lane.model import Activation, Confidence, Head, LaneModel, Metric, Origin
from trt_lane.models._resnet import ResNetTrunk

TRUNK_STRIDE = 32
POOLED = 8  # channels kept before the linear layers
HIDDEN = 2048
TOKENS = 1  # channels of a lane's own map in the CurveLanes network

Shapes = dict[str, tuple[int, int, int]]  # of the four heads, in the order of the linear outputs


class UFLDv2(nn.Module):
    """All anchors of all lanes from one vector of the whole image (CULane, TuSimple).

    Args:
        depth: of the ResNet trunk.
        input_hw: height and width of the input; the first linear layer depends on it.
        head_shapes: loc_row, loc_col, exist_row and exist_col, each (classes, anchors, L).
        norm: whether a layer norm comes before the linear layers.
        width: channels of the trunk's first stage.
        hidden: width of the linear layers.
    """

    def __init__(
        self,
        depth: int,
        input_hw: tuple[int, int],
        head_shapes: Shapes,
        norm: bool,
        width: int = 64,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__()
        self.head_shapes = head_shapes
        self.model = ResNetTrunk(depth, width)
        features = POOLED * prod(side // TRUNK_STRIDE for side in input_hw)
        self.cls = nn.Sequential(
            nn.LayerNorm(features) if norm else nn.Identity(),
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, sum(prod(shape) for shape in head_shapes.values())),
        )
        self.pool = nn.Conv2d(self.model.channels[-1], POOLED, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the four heads, each (N, classes, anchors, L)."""
        outputs = self.cls(self.pool(self.model(x)[-1]).flatten(1))
        heads, start = {}, 0
        for name, shape in self.head_shapes.items():
            heads[name] = outputs[:, start : start + prod(shape)].reshape(-1, *shape)
            start += prod(shape)
        return heads


class UFLDv2PerLane(nn.Module):
    """The same anchors, one lane at a time from the image and a map of that lane (CurveLanes).

    L maps serve the row anchors, another L the column anchors; arguments as UFLDv2's.
    """

    def __init__(
        self,
        depth: int,
        input_hw: tuple[int, int],
        head_shapes: Shapes,
        width: int = 64,
        hidden: int = HIDDEN,
    ) -> None:
        super().__init__()
        self.head_shapes = head_shapes
        self.hidden = hidden
        self.lanes = head_shapes["loc_row"][-1]
        self.map_hw = tuple(side // TRUNK_STRIDE for side in input_hw)
        self.features = (POOLED + TOKENS) * prod(self.map_hw)
        self.model = ResNetTrunk(depth, width)
        self.cls_distribute = nn.Sequential(
            nn.Conv2d(self.model.channels[-1], 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(128, 2 * self.lanes * TOKENS, 3, padding=1),
        )
        self.cls = nn.Sequential(
            nn.LayerNorm(self.features), nn.Linear(self.features, hidden), nn.ReLU()
        )
        per_lane = {name: prod(shape[:2]) for name, shape in head_shapes.items()}
        self.cls_row = nn.Linear(hidden, per_lane["loc_row"] + per_lane["exist_row"])
        self.cls_col = nn.Linear(hidden, per_lane["loc_col"] + per_lane["exist_col"])
        self.pool = nn.Conv2d(self.model.channels[-1], POOLED, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the four heads, each (N, classes, anchors, L)."""
        trunk = self.model(x)[-1]
        maps = self.cls_distribute(trunk).reshape(-1, 2 * self.lanes, TOKENS, *self.map_hw)
        image = self.pool(trunk).unsqueeze(1).expand(-1, 2 * self.lanes, -1, -1, -1)
        joined = torch.cat([image, maps], dim=2).reshape(-1, self.features)
        vectors = self.cls(joined).reshape(-1, 2 * self.lanes, self.hidden)
        rows = self.cls_row(vectors[:, : self.lanes]).transpose(1, 2)  # (N, anchors..., L)
        columns = self.cls_col(vectors[:, self.lanes :]).transpose(1, 2)
        loc_row, exist_row = self._split(rows, "loc_row", "exist_row")
        loc_col, exist_col = self._split(columns, "loc_col", "exist_col")
        return {
            "loc_row": loc_row,
            "loc_col": loc_col,
            "exist_row": exist_row,
            "exist_col": exist_col,
        }

    def _split(self, values: Tensor, location: str, existence: str) -> tuple[Tensor, Tensor]:
        shape = self.head_shapes[location]
        cut = prod(shape[:2])
        return (
            values[:, :cut].reshape(-1, *shape),
            values[:, cut:].reshape(-1, *self.head_shapes[existence]),
        )


def _heads(decoder: RowColumnAnchor) -> tuple[Head, ...]:
    shapes = decoder.head_shapes
    on_row, on_column = (
        Confidence(name, Activation.SOFTMAX, axis=0, classes=(0,), of_background=True)
        for name in ("exist_row", "exist_col")
    )
    return (
        Head("loc_row", shapes["loc_row"], "location logits on rows", on_row, (1, 2)),
        Head("loc_col", shapes["loc_col"], "location logits on columns", on_column, (1, 2)),
        Head("exist_row", shapes["exist_row"], "existence logits on rows", on_row, (1, 2)),
        Head("exist_col", shapes["exist_col"], "existence logits on columns", on_column, (1, 2)),
    )


def _image(frame_hw: tuple[int, int], input_hw: tuple[int, int], kept: float) -> ImageSpec:
    """The frame is stretched so that its lower `kept` part fills the input (crop_ratio)."""
    return ImageSpec(
        frame_hw,
        input_hw,
        resized_crop_top=int(input_hw[0] / kept) - input_hw[0],
        resampling=Resampling.ANTIALIASED,
    )


def _decoder(
    image: ImageSpec,
    anchors: tuple[int, int],
    row_cells: int,
    top: float,
    above: tuple[float, float],
) -> RowColumnAnchor:
    """Two rows and two columns of lanes; pairs are (of rows, of columns)."""
    return RowColumnAnchor(
        frame_hw=image.frame_hw,
        rows=anchors[0],
        columns=anchors[1],
        row_cells=row_cells,
        column_cells=100,
        top=top,
        above_rows=above[0],
        above_columns=above[1],
    )


CULANE_IMAGE = _image((590, 1640), (320, 1600), 0.6)
CULANE_DECODER = _decoder(CULANE_IMAGE, (72, 81), 200, 0.42, (72 / 2, 81 / 4))
# As TuSimple is officially scored (eval_wrapper.py run_test_tusimple): all lanes from the row
# heads, its mode "4row". generate_tusimple_lines has another default, which nothing calls; demo.py
# shows TuSimple's frames with CULane's numbers.
TUSIMPLE_IMAGE = _image((720, 1280), (320, 800), 0.8)
TUSIMPLE_DECODER = replace(
    _decoder(TUSIMPLE_IMAGE, (56, 41), 100, 160 / 720, (3, 3)),
    bottom=710 / 720,
    window=14,
    row_lanes=(0, 1, 2, 3),
    column_lanes=(),
)
CURVELANES_IMAGE = _image((1440, 2560), (800, 1600), 0.8)


def _curvelanes_decoder(columns: int) -> RowColumnAnchor:
    return replace(
        _decoder(CURVELANES_IMAGE, (72, columns), 200, 0.4, (72 / 4, columns / 4)),
        lanes=10,
        row_lanes=tuple(range(10)),
        column_lanes=tuple(range(10)),
        refit=Refit.MERGED,
    )


# CurveLanes' r18 and r34 differ in their number of column anchors (configs/curvelanes_res18.py,
# curvelanes_res34.py).
_DATA_SETS = {
    "culane": (CULANE_IMAGE, partial(UFLDv2, norm=True), Metric.CULANE),
    "tusimple": (TUSIMPLE_IMAGE, partial(UFLDv2, norm=False), Metric.TUSIMPLE),
    "curvelanes": (CURVELANES_IMAGE, UFLDv2PerLane, Metric.CURVELANES),
}


def _model(depth: int, data: str, decoder: RowColumnAnchor, score: str) -> LaneModel:
    image, network, metric = _DATA_SETS[data]
    return LaneModel(
        name=f"ufldv2.r{depth}_{data}",
        image=image,
        heads=_heads(decoder),
        decoder=decoder,
        network=partial(network, depth, image.input_hw, decoder.head_shapes),
        metric=metric,
        origin=Origin(
            "https://github.com/cfzd/Ultra-Fast-Lane-Detection-v2",
            "MIT",
            f"{data}_res{depth}.pth",
            score,
        ),
        training_only=("seg_head.",),
    )


# CULane's configurations, with which the README evaluates, say tta = True: the linear layers also
# see the map moved by a cell each way, and a location is the mean over three of the maps.
# CurveLanes' say False, TuSimple's have no such switch. One pass is decoded here.
MODELS = (
    _model(18, "culane", CULANE_DECODER, "CULane F1 75.0 with test-time augmentation"),
    _model(34, "culane", CULANE_DECODER, "CULane F1 76.0 with test-time augmentation"),
    _model(18, "tusimple", TUSIMPLE_DECODER, "TuSimple F1 96.11"),
    _model(34, "tusimple", TUSIMPLE_DECODER, "TuSimple F1 96.24"),
    _model(18, "curvelanes", _curvelanes_decoder(41), "CurveLanes F1 80.42"),
    _model(34, "curvelanes", _curvelanes_decoder(81), "CurveLanes F1 81.34"),
)
