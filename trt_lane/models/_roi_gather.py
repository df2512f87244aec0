"""CLRNet's ROI gathering: features along each line, then attention of the line to the whole map.

Structure and key names follow Turoad/CLRNet, commit 7269e9d, clrnet/models/utils/roi_gather.py and
clrnet/models/heads/clr_head.py. Lines lie on a map axis here, where the official code makes each
one an image of one column: the convolutions see the same numbers and nothing is transposed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIDDLE = 48  # channels of a stage's own features
CONTEXT_HW = (10, 25)  # size to which a map is thinned before lines attend to it


class ConvNorm(nn.Module):
    """Convolution that keeps the size, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return self.relu(self.bn(self.conv(x)))


class PerLine(nn.Module):
    """Every line's own factor and offset: the official grouped Conv1d with kernel 1."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(lines, 1, 1))
        self.bias = nn.Parameter(torch.zeros(lines))

    def forward(self, x: Tensor) -> Tensor:
        """(N, A, C) -> (N, A, C)."""
        return x * self.weight.flatten(1) + self.bias.unsqueeze(1)


class ROIGather(nn.Module):
    """Features of every line at every stage of the refinement.

    Args:
        channels: C of the maps and of a line's features.
        lines: A.
        samples: places R on each line.
        map_hws: size of each stage's map, coarsest first.
    """

    def __init__(
        self, channels: int, lines: int, samples: int, map_hws: tuple[tuple[int, int], ...]
    ) -> None:
        super().__init__()
        self.channels, self.lines, self.samples = channels, lines, samples
        self.map_hws = map_hws
        self.f_key = ConvNorm(channels, channels, (1, 1))
        self.f_query = nn.Sequential(PerLine(lines), nn.ReLU(inplace=False))
        self.f_value = nn.Conv2d(channels, channels, 1)
        self.W = PerLine(lines)
        self.convs = nn.ModuleList(ConvNorm(channels, MIDDLE, (9, 1)) for _ in map_hws)
        self.catconv = nn.ModuleList(
            ConvNorm(MIDDLE * (i + 1), channels, (9, 1)) for i in range(len(map_hws))
        )
        self.fc = nn.Linear(samples * channels, channels)
        self.fc_norm = nn.LayerNorm(channels)
        self.relu = nn.ReLU(inplace=False)

    def forward(
        self, grid: Tensor, features: Tensor, before: list[Tensor], stage: int
    ) -> tuple[Tensor, list[Tensor]]:
        """One stage.

        Args:
            grid: (N, R, A, 2) or (1, R, A, 2), places x, y in [-1, 1], corners at corner pixels.
            features: map (N, C, h, w) of this stage.
            before: what the stages before gave as second result.
            stage: 0 is the coarsest.

        Returns:
            Features (N * A, C) of the lines, and this stage's with the earlier ones, each
            (N, MIDDLE, R, A).
        """
        sampled = self._sample(features, grid, stage)  # (N, C, R, A)
        stages = [*before, self.convs[stage](sampled)]
        joined = self.catconv[stage](torch.cat(stages, dim=1))
        own = joined.permute(0, 3, 1, 2).reshape(-1, self.channels * self.samples)
        lines = self.relu(self.fc_norm(self.fc(own))).reshape(-1, self.lines, self.channels)
        return (lines + self._context(lines, features, stage)).reshape(-1, self.channels), stages

    def _sample(self, features: Tensor, grid: Tensor, stage: int) -> Tensor:
        if stage == 0:
            # The first places are the same for all images, so that images can stand side by side
            # as channels of one; grid_sample wants a grid for each image otherwise.
            features = features.reshape(1, -1, *self.map_hws[0])
        sampled = F.grid_sample(features, grid, align_corners=True)
        return sampled.reshape(-1, self.channels, self.samples, self.lines)

    def _context(self, lines: Tensor, features: Tensor, stage: int) -> Tensor:
        """What the lines (N, A, C) find on the map: (N, A, C)."""
        # Nearest neighbours of a whole factor are every factor-th pixel. The official code thins
        # after the 1x1 convolutions, with the same result.
        step_y, step_x = (m // c for m, c in zip(self.map_hws[stage], CONTEXT_HW, strict=True))
        thinned = features[:, :, ::step_y, ::step_x]
        keys = self.f_key(thinned).flatten(2)  # (N, C, h * w)
        values = self.f_value(thinned).flatten(2).transpose(1, 2)
        likeness = torch.matmul(self.f_query(lines), keys) * self.channels**-0.5
        return self.W(torch.matmul(likeness.softmax(dim=-1), values))
