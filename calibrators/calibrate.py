"""From a float network, a recipe and frames to a ScaleTable: collect -> scale -> apply."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, fx

from calibrators.collect import Progress, collect
from calibrators.equalise import find_equalisation
from calibrators.fake_quant import round_to_levels
from calibrators.frames import frame_warnings
from calibrators.insert import quantisation_sites, quantised_layers
from calibrators.recipe import QuantRecipe
from calibrators.steps import activation_scale, edge_bits, weight_scale
from trt_lane.errors import TrtLaneError
from trt_lane.models._equalised import equalised
from trt_lane.scales import Equalisation, Scale, ScaleTable


def calibrate(
    graph_module: fx.GraphModule,
    frames: Tensor,
    recipe: QuantRecipe,
    float_layers: Iterable[str] = (),
    progress: Progress = lambda items, _: items,
    equalisation: Equalisation | None = None,
) -> ScaleTable:
    """A ScaleTable by the recipe's observers, weights rounded to nearest.

    Args:
        graph_module: from trt_lane.models._folded.fold.
        frames: network inputs, float32 (F, 3, h, w).
        recipe: the method.
        float_layers: module paths that stay in float.
        progress: wraps an iterable with a bar and a label.
        equalisation: the table is of the network with these factors; None for those that are found
            where the recipe equalises, else for none.
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
    if equalisation is None and recipe.equalise:
        equalisation = find_equalisation(graph_module, frames, recipe, float_layers, progress)
    equalisation = equalisation or Equalisation()
    graph_module = equalised(graph_module, equalisation)
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
        "warnings": frame_warnings(frames),
    }
    return ScaleTable(
        sites, activations, weights, rounded, maxima, digests, info, equalised=equalisation
    )
