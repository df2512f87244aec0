"""CLRNet's head: lines that are corrected on each map of a pyramid, the coarsest first.

Structure, key names and the order of operations follow Turoad/CLRNet, commit 7269e9d,
clrnet/models/heads/clr_head.py.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn

from trt_lane.models._roi_gather import ROIGather

STRIDES = (32, 16, 8)  # of the refinement stages' maps
CHANNELS = 64
LINES = 192
OFFSETS = 72
SAMPLES = 36  # places on a line where features are taken
GEOMETRY = 3  # start_y, start_x, theta


class RefinementHead(nn.Module):
    """Lines that start as learned priors and are corrected on each map, coarsest first."""

    def __init__(self, input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = input_hw
        samples = torch.linspace(0, 1, SAMPLES) * (OFFSETS - 1)
        self.register_buffer("sample_x_indexs", samples.long())
        feature_ys = 1 - self.sample_x_indexs.float() / (OFFSETS - 1)
        self.register_buffer("prior_feat_ys", feature_ys.flip(0))
        self.register_buffer("prior_ys", torch.linspace(1, 0, OFFSETS))
        geometry = torch.tensor(_first_geometry())  # (A, 3)
        xs = self.line_xs(geometry.t().unsqueeze(0), self.prior_ys)[0].t()  # (A, S)
        scores, length = torch.zeros(LINES, 2), torch.zeros(LINES, 1)
        self.register_buffer("priors", torch.cat([scores, geometry, length, xs], dim=1))
        self.register_buffer("priors_on_featmap", xs[:, self.sample_x_indexs])
        self.reg_modules = _hidden_layers()
        self.cls_modules = _hidden_layers()
        map_hws = tuple((self.height // s, self.width // s) for s in STRIDES)
        self.roi_gather = ROIGather(CHANNELS, LINES, SAMPLES, map_hws)
        self.reg_layers = nn.Linear(CHANNELS, GEOMETRY + 1 + OFFSETS)
        self.cls_layers = nn.Linear(CHANNELS, 2)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Maps (N, C, h, w), coarsest first -> cls (N, A, 2), extent (N, A, 4), xs (N, A, S)."""
        geometry = self.priors[:, 2 : 2 + GEOMETRY].t()  # (3, A), then (N, 3, A)
        places = self.priors_on_featmap.flip(1).t().unsqueeze(0)  # (1, R, A), top first
        sample_ys = self.prior_ys[self.sample_x_indexs].flip(0)
        lines, gathered = None, []
        for stage, features in enumerate(maps):
            if stage > 0:
                places = self.line_xs(geometry, sample_ys)
            lines, gathered = self.roi_gather(self._grid(places), features, gathered, stage)
            corrections = self.reg_layers(_through(self.reg_modules, lines))
            corrections = corrections.reshape(-1, LINES, GEOMETRY + 1 + OFFSETS)
            geometry = geometry + corrections[:, :, :GEOMETRY].transpose(1, 2)
        # Earlier stages' scores, lengths and offsets serve the official training only.
        scores = self.cls_layers(_through(self.cls_modules, lines))
        length = corrections[:, :, GEOMETRY : GEOMETRY + 1]
        straight = self.line_xs(geometry, self.prior_ys).transpose(1, 2)
        return {
            "cls": scores.reshape(-1, LINES, 2),
            "extent": torch.cat([geometry.transpose(1, 2), length], dim=2),
            "xs": straight + corrections[:, :, GEOMETRY + 1 :],
        }

    def line_xs(self, geometry: Tensor, ys: Tensor) -> Tensor:
        """Straight lines' x as fractions of the width: (N, R, A) from (N, 3, A) and y (R,)."""
        start_y, start_x, theta = geometry[:, 0:1], geometry[:, 1:2], geometry[:, 2:3]
        rise = 1 - ys.unsqueeze(1) - start_y
        run = rise * self.height / torch.tan(theta * pi + 1e-5)
        return (start_x * (self.width - 1) + run) / (self.width - 1)

    def _grid(self, xs: Tensor) -> Tensor:
        """Places for grid_sample, (N, R, A, 2), from x (N, R, A), top first."""
        # Beyond the image all is zero, however far; a level line must not become infinite.
        xs = (xs.clamp(-2, 3) * 2 - 1).unsqueeze(3)
        ys = (self.prior_feat_ys * 2 - 1).reshape(-1, 1, 1)
        return torch.cat([xs, xs * 0 + ys], dim=3)


def _hidden_layers() -> nn.ModuleList:
    layers = [nn.Linear(CHANNELS, CHANNELS), nn.ReLU(inplace=False)]
    return nn.ModuleList([*layers, nn.Linear(CHANNELS, CHANNELS), nn.ReLU(inplace=False)])


def _through(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _first_geometry() -> list[tuple[float, float, float]]:
    """Priors before training: start_y, start_x, theta of lines from the left, bottom, right edge.

    An eighth of the lines start on each side's lower half at two angles, the others on the bottom
    at four.
    """
    side, bottom = LINES // 8, LINES * 3 // 4
    up, along = 0.5 / (side // 2 - 1), 1 / (bottom // 4 + 1)
    left = [(i // 2 * up, 0.0, (0.16, 0.32)[i % 2]) for i in range(side)]
    middle = [(0.0, (i // 4 + 1) * along, 0.2 * (i % 4 + 1)) for i in range(bottom)]
    right = [(i // 2 * up, 1.0, (0.68, 0.84)[i % 2]) for i in range(side)]
    return [*left, *middle, *right]
