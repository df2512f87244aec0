"""The folded network with its ranges moved between layers: calibration and export both use it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from trt_lane.models._folded import BATCH_NORMS, TRANSPOSED
from trt_lane.scales import Equalisation


def equalised(graph_module: fx.GraphModule, equalisation: Equalisation) -> fx.GraphModule:
    """A copy of a folded network with the factors in its weights, biases and batch norms.

    The function is the same: what one layer multiplies the next divides (Nagel et al. 2019,
    section 4.1). Factors are powers of two, so not even a last bit changes. Layers without factors
    are shared with the network that is given, which stays as it is.
    """
    if not equalisation:
        return graph_module
    result = copy.copy(graph_module)
    result.graph = copy.deepcopy(graph_module.graph)
    for path in sorted({*equalisation.outputs, *equalisation.inputs}):
        above, _, last = path.rpartition(".")
        layer = copy.deepcopy(graph_module.get_submodule(path))
        with torch.no_grad():
            if path in equalisation.inputs:
                _divide_inputs(layer, torch.from_numpy(equalisation.inputs[path]))
            if path in equalisation.outputs:
                _multiply_outputs(layer, torch.from_numpy(equalisation.outputs[path]))
        setattr(result.get_submodule(above), last, layer)
    result.recompile()
    return result.eval()


def channel_counts(layer: nn.Module) -> tuple[int, int]:
    """Input and output channels of a layer or batch norm."""
    if isinstance(layer, BATCH_NORMS):
        return layer.num_features, layer.num_features
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def _divide_inputs(layer: nn.Module, factors: Tensor) -> None:
    """The layer that gives for x * factors what the layer gave for x."""
    if isinstance(layer, BATCH_NORMS):  # (x s - m s) / deviation * w / s
        layer.running_mean *= factors
        layer.weight /= factors
    elif isinstance(layer, TRANSPOSED):  # (in, out / groups, ...)
        layer.weight /= _along_first(factors, layer.weight)
    else:  # (out, in / groups, ...): every group of outputs reads its own inputs
        groups = getattr(layer, "groups", 1)
        weight = layer.weight.unflatten(0, (groups, -1)).transpose(1, 2)  # (g, in / g, out / g, …)
        weight = weight / factors.view(groups, -1, *[1] * (weight.ndim - 2))
        layer.weight.copy_(weight.transpose(1, 2).flatten(0, 1))


def _multiply_outputs(layer: nn.Module, factors: Tensor) -> None:
    if isinstance(layer, TRANSPOSED):
        weight = layer.weight.unflatten(0, (layer.groups, -1))  # (g, in / g, out / g, ...)
        size = [layer.groups, 1, -1, *[1] * (weight.ndim - 3)]
        layer.weight.copy_((weight * factors.view(size)).flatten(0, 1))
    else:
        layer.weight *= _along_first(factors, layer.weight)
    if layer.bias is not None:
        layer.bias *= factors


def _along_first(factors: Tensor, weight: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (weight.ndim - 1))
