"""The step of a tensor or of a weight's channels, by a recipe's observer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calibrators.collect import add_values
from calibrators.fake_quant import channel_axis
from calibrators.observers import MSE_CANDIDATES, MSE_NORM, OBSERVERS, Statistics, fp16_exact
from calibrators.recipe import QuantRecipe, TensorRecipe
from trt_lane.scales import Scale

# Elements of a weight tensor that are searched at once; bounds the memory of the MSE search.
_CHUNK = 1 << 22


def activation_scale(statistics: Statistics, recipe: TensorRecipe, bits: int) -> Scale:
    """One step for a tensor; a tensor that is always zero gets step 1 / qmax.

    Simulations of fewer than 8 bits give a tensor without negative values (after a ReLU) an
    unsigned grid, as the published methods do: the 2^bits levels 0, 1, … that signed integers of
    one bit more have from 0 up. INT8 in TensorRT is signed everywhere.
    """
    if bits < 8 and not statistics.signed:
        bits += 1
    qmax = (1 << (bits - 1)) - 1
    if statistics.absmax == 0:
        return Scale(fp16_exact(1 / qmax), None, bits)
    extra = {"share": recipe.percentile} if recipe.observer == "percentile" else {}
    threshold = OBSERVERS[recipe.observer](statistics, qmax, **extra)
    return Scale(fp16_exact(max(threshold, 1e-12) / qmax), None, bits)


@torch.no_grad()
def weight_scale(layer: nn.Module, recipe: TensorRecipe, bits: int) -> Scale:
    """One step per output channel; a channel of zeros gets step 1 / qmax."""
    axis = channel_axis(layer)
    return row_scale(layer.weight.detach().transpose(0, axis).flatten(1), recipe, bits, axis)


def row_scale(rows: Tensor, recipe: TensorRecipe, bits: int, axis: int = 0) -> Scale:
    """One step per row of (channels, the rest), for the axis of a weight that they come from."""
    qmax = (1 << (bits - 1)) - 1
    threshold = rows.abs().amax(dim=1)
    if recipe.observer == "mse":
        size = max(1, _CHUNK // rows.shape[1])
        parts = [_mse_rows(rows[i : i + size], qmax) for i in range(0, len(rows), size)]
        threshold = torch.cat(parts)
    elif recipe.observer != "minmax":
        threshold = torch.tensor([_observe_row(row, recipe, qmax) for row in rows])
    threshold = torch.where(threshold > 0, threshold, torch.ones(()))
    return Scale(fp16_exact(threshold.numpy() / qmax), axis, bits)


def edge_bits(layers: list[str], recipe: QuantRecipe) -> tuple[dict[str, int], dict[str, int]]:
    """Weights of the first and the last layer stay at 8 bits in low-bit runs (usual practice).

    Returns:
        Bits by layer path, and by activation key (the image).
    """
    if recipe.deployable:
        return {}, {}
    return {layers[0]: 8, layers[-1]: 8}, {"image": 8}


def _mse_rows(rows: Tensor, qmax: int) -> Tensor:
    """Per row the threshold of least L2.4 error among shrunken ranges."""
    absmax = rows.abs().amax(dim=1)
    best_error = torch.full_like(absmax, float("inf"))
    best = absmax.clone()
    # As in BRECQ's code: below a fifth of the range the clipping error wins at any width.
    lowest = MSE_CANDIDATES // 5
    for i in range(lowest, MSE_CANDIDATES + 1):
        threshold = absmax * (i / MSE_CANDIDATES)
        step = (threshold / qmax).clamp_min(1e-12)[:, None]
        error = (torch.clamp(torch.round(rows / step), -qmax - 1, qmax) * step - rows).abs_()
        total = error.pow_(MSE_NORM).sum(dim=1)
        better = total < best_error
        best_error = torch.where(better, total, best_error)
        best = torch.where(better, threshold, best)
    return best


def _observe_row(row: Tensor, recipe: TensorRecipe, qmax: int) -> float:
    statistics = Statistics(absmax=float(row.abs().max()))
    add_values(statistics, row)
    extra = {"share": recipe.percentile} if recipe.observer == "percentile" else {}
    return OBSERVERS[recipe.observer](statistics, qmax, **extra) if statistics.absmax else 0.0
