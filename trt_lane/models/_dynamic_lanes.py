"""CondLaneNet's conditional convolution with a fixed number of kernels.

Key names and arithmetic follow aliyun/conditional-lane-detection, commit c57b242
(dense_heads/condlanenet_head.py, conv_rnn.py). There, as many kernels as the heat map has peaks are
cut out of the parameter map; here always K, so that every shape is known when the graph is built.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trt_lane.decoders.dynamic_mask import HEAT_LIMIT_LOGIT, NO_PEAK_LOGIT

CHANNELS = 64
KERNEL = CHANNELS + 2  # weights of one kernel: x and y of the cell, then the features
KERNEL_PARAMS = 2 * (KERNEL + 1)  # a kernel and a bias for the mask, the same for the offsets
MASK_BIAS = -2.19
RANGE_HIDDEN = 64


class PeakSlots(nn.Module):
    """The K highest peaks of the heat map, each in a slot that small errors do not change.

    Peaks are chosen by height. Those above the threshold then take the first slots, in the order of
    the map's columns: lanes lie side by side, so that a quantised network and its float original
    fill the same slots as long as they see the same lanes. Order by height would swap them.

    The comparison is between logits, which decides as the official one between sigmoids does and
    does not depend on the precision of an exp.
    """

    def __init__(self, heat_hw: tuple[int, int], slots: int, threshold_logit: float) -> None:
        super().__init__()
        self.cells = heat_hw[0] * heat_hw[1]
        self.slots = slots
        self.threshold_logit = threshold_logit

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, h, w) -> logits of the peaks (N, K) and their cells x * h + y, int64 (N, K)."""
        heat = logits.clamp(-HEAT_LIMIT_LOGIT, HEAT_LIMIT_LOGIT)
        is_peak = F.max_pool2d(heat, 3, 1, 1) == heat
        peaks = torch.where(is_peak, heat, NO_PEAK_LOGIT)
        height, cells = peaks.transpose(2, 3).flatten(1).topk(self.slots)
        below = (height <= self.threshold_logit).float()
        # float32 holds every cell number; only the order of the first slots matters.
        order = (-cells.float() - self.cells * below).topk(self.slots).indices
        return height.gather(1, order), cells.gather(1, order)


def at_cells(field: Tensor, cells: Tensor, channels: int) -> Tensor:
    """Vectors (N, K, C) of a map (N, C, h, w) at cells x * h + y (N, K)."""
    columns = field.transpose(2, 3).flatten(2).transpose(1, 2)  # (N, w * h, C)
    return columns.gather(1, cells.unsqueeze(-1).expand(-1, -1, channels))


class DynamicLanes(nn.Module):
    """From kernels to what the decoder reads: 1x1 convolutions as one product per image."""

    def __init__(self, mask_hw: tuple[int, int]) -> None:
        super().__init__()
        self.mask_hw = height, width = mask_hw
        # Both axes are counted in widths: the original divides them so (compute_locations).
        x = torch.arange(width).div(width).expand(height, width)
        y = torch.arange(height).div(width)[:, None].expand(height, width)
        self.register_buffer("xy", torch.stack((x, y)).flatten(1)[None], persistent=False)

    def forward(self, params: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels (N, K, 134), features (N, C, H, W) -> mask and offsets, both (N, K, H, W)."""
        flat = features.flatten(2)
        mask = self._convolve(params[:, :, : KERNEL + 1], flat)
        offsets = self._convolve(params[:, :, KERNEL + 1 :], flat)
        return mask, offsets

    def _convolve(self, kernel: Tensor, flat: Tensor) -> Tensor:
        of_place = torch.matmul(kernel[:, :, :2], self.xy)
        of_features = torch.matmul(kernel[:, :, 2:KERNEL], flat)
        total = of_place + of_features + (kernel[:, :, KERNEL:] + MASK_BIAS)
        return total.unflatten(2, self.mask_hw)


class RangeMLP(nn.Module):
    """Whether a lane is in a row, from the row of its mask: a perceptron shared by all rows."""

    def __init__(self, mask_hw: tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = mask_hw
        self.layers = nn.ModuleList(
            (nn.Conv1d(self.width, RANGE_HIDDEN, 1), nn.Conv1d(RANGE_HIDDEN, 2, 1))
        )
        self.relu = nn.ReLU(inplace=False)

    def forward(self, masks: Tensor, lanes: int) -> Tensor:
        """(N, lanes, H, W) -> logits (N, lanes, 2, H): absent, present."""
        rows = masks.transpose(2, 3).reshape(-1, self.width, self.height)
        logits = self.layers[1](self.relu(self.layers[0](rows)))
        return logits.reshape(-1, lanes, 2, self.height)


class KernelCell(nn.Module):
    """LSTM cell whose gates are a 1x1 convolution with group norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        gates = 4 * channels
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, gates, 1), nn.GroupNorm(gates // 32, gates)
        )

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Three (B, C, 1, 1) -> the next hidden and cell state."""
        gates = self.conv(torch.cat((x, hidden), 1))
        i, f, g, o = (gates[:, k * self.channels : (k + 1) * self.channels] for k in range(4))
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class KernelPredictor(nn.Module):
    """Kernel and state of one step: 1 = another lane starts at the same point, 0 = the last one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc_param = nn.Conv2d(channels, KERNEL_PARAMS, 1)
        self.fc_state = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, 1, 1) -> (B, 134), (B, 2)."""
        return self.fc_param(x).flatten(1), self.fc_state(x).flatten(1)
