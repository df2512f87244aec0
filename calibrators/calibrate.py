"""From a float network, a recipe and frames to a ScaleTable: collect -> scale -> apply."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, fx, nn

from calibrators.collect import Progress, add_values, collect
from calibrators.fake_quant import channel_axis, round_to_levels
from calibrators.insert import quantisation_sites, quantised_layers
from calibrators.observers import MSE_CANDIDATES, MSE_NORM, OBSERVERS, Statistics, fp16_exact
from calibrators.recipe import QuantRecipe, TensorRecipe
from trt_lane.errors import TrtLaneError
from trt_lane.scales import Scale, ScaleTable

# Elements of a weight tensor that are searched at once; bounds the memory of the MSE search.
_CHUNK = 1 << 22


def calibrate(
    graph_module: fx.GraphModule,
    frames: Tensor,
    recipe: QuantRecipe,
    float_layers: Iterable[str] = (),
    progress: Progress = lambda items, _: items,
) -> ScaleTable:
    """A ScaleTable by the recipe's observers, weights rounded to nearest.

    Args:
        graph_module: from trt_lane.models._folded.fold.
        frames: network inputs, float32 (F, 3, h, w).
        recipe: the method.
        float_layers: module paths that stay in float.
        progress: wraps an iterable with a bar and a label.
    """
    if frames.ndim != 4 or not len(frames):
        raise TrtLaneError(
            f"calibration frames have shape {tuple(frames.shape)}; expected (F, 3, h, w)"
        )
    if not torch.isfinite(frames).all():
        raise TrtLaneError("calibration frames hold NaN or infinity; remove those frames")
    start = time.monotonic()
    float_layers = tuple(float_layers)
    sites = quantisation_sites(graph_module, float_layers)
    if not sites:
        raise TrtLaneError("nothing to quantise: every layer of the network is kept in float")
    watched = {site.tensor: site.key for site in sites}
    statistics, maxima = collect(graph_module, frames, watched, recipe.batch, progress)
    layers = quantised_layers(graph_module, float_layers)
    bits = edge_bits(layers, recipe)
    activations = {
        key: activation_scale(s, recipe.activations, bits[1].get(key, recipe.activations.bits))
        for key, s in statistics.items()
    }
    weights: dict[str, Scale] = {}
    rounded: dict[str, np.ndarray] = {}
    for path in progress(layers, "weights"):
        layer = graph_module.get_submodule(path)
        name = f"{path}.weight"
        weights[name] = weight_scale(layer, recipe.weights, bits[0].get(path, recipe.weights.bits))
        rounded[name] = round_to_levels(layer.weight, weights[name])
    digests = {
        "recipe": recipe.digest(),
        "weights": graph_module.meta["weights"],
        "data": hashlib.sha256(frames.numpy().tobytes()).hexdigest(),
    }
    info = {
        "recipe": recipe.name,
        "frames": len(frames),
        "seconds": round(time.monotonic() - start, 3),
        "simulated": not recipe.deployable,
        "dead_tensors": sorted(k for k, s in statistics.items() if s.absmax == 0),
    }
    return ScaleTable(sites, activations, weights, rounded, maxima, digests, info)


def activation_scale(statistics: Statistics, recipe: TensorRecipe, bits: int) -> Scale:
    """One step for a tensor; a tensor that is always zero gets step 1 / qmax."""
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
    qmax = (1 << (bits - 1)) - 1
    rows = layer.weight.detach().transpose(0, axis).flatten(1)  # (channels, the rest)
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
