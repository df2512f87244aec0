"""INT8 arithmetic simulated in float, differentiable: what the engine will compute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from calibrators.insert import insert_sites
from trt_lane.models._equalised import equalised
from trt_lane.models._folded import TRANSPOSED
from trt_lane.scales import Scale, ScaleTable


def round_straight_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing happened."""
    return x + (torch.round(x) - x).detach()


def fake_quantize(x: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    """clip(round_half_even(x / scale), qmin, qmax) * scale.

    The gradient of x is 1 inside the range and 0 outside, that of the scale is LSQ's
    (Esser et al. 2020, eq. 3): q - x / scale inside, qmin or qmax outside.
    """
    return torch.clamp(round_straight_through(x / scale), qmin, qmax) * scale


class ActivationQuantizer(nn.Module):
    """One quantisation step for a whole tensor."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale.value)), requires_grad=False)
        self.qmin, self.qmax, self.bits = scale.qmin, scale.qmax, scale.bits

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same out, on the grid."""
        return fake_quantize(x, self.scale, self.qmin, self.qmax)


class FixedWeight(nn.Module):
    """A weight replaced by its rounded levels (a parametrisation: the float weight is ignored)."""

    def __init__(self, levels: np.ndarray, scale: Scale) -> None:
        super().__init__()
        shape = [1] * levels.ndim
        shape[scale.axis] = -1
        weight = torch.from_numpy(levels.astype(np.float32)) * torch.from_numpy(
            scale.value.reshape(shape)
        )
        self.register_buffer("weight", weight)

    def forward(self, _: Tensor) -> Tensor:
        """The quantised weight."""
        return self.weight


def channel_axis(layer: nn.Module) -> int:
    """The axis of a layer's weight that runs over its output channels."""
    return 1 if isinstance(layer, TRANSPOSED) else 0


def quantised_network(graph_module: fx.GraphModule, table: ScaleTable) -> fx.GraphModule:
    """The folded network as the engine will compute it, by fake quantisation."""
    network = insert_sites(
        equalised(graph_module, table.equalised),
        table.sites,
        lambda site: ActivationQuantizer(table.activations[site.key]),
    )
    replace_weights(
        network, {n: FixedWeight(table.rounded[n], s) for n, s in table.weights.items()}
    )
    replace_biases(network, table.biases)
    return network.eval()


def replace_biases(graph_module: fx.GraphModule, biases: Mapping[str, np.ndarray]) -> None:
    """Give layers whose weights were replaced (so that they are this graph's own) other biases."""
    for name, bias in biases.items():
        layer = graph_module.get_submodule(name.rpartition(".")[0])
        layer.bias = nn.Parameter(torch.from_numpy(bias.copy()), requires_grad=False)


def replace_weights(graph_module: fx.GraphModule, quantizers: Mapping[str, nn.Module]) -> None:
    """Put a weight quantizer on layers, given by weight name; their owners are copied first."""
    for name, quantizer in quantizers.items():
        layer_path = name.rpartition(".")[0]
        layer = private_layer(graph_module, layer_path)
        parametrize.register_parametrization(layer, "weight", quantizer, unsafe=True)


def private_layer(graph_module: fx.GraphModule, path: str) -> nn.Module:
    """The layer at a path after making it, and the modules above it, this graph's own."""
    owner: nn.Module = graph_module
    *above, last = path.split(".")
    for atom in above:
        child = _shallow(getattr(owner, atom))
        owner._modules[atom] = child
        owner = child
    layer = _shallow(getattr(owner, last))
    owner._modules[last] = layer
    return layer


def _shallow(module: nn.Module) -> nn.Module:
    copied = module.__class__.__new__(module.__class__)
    copied.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in vars(module).items()}
    return copied


def round_to_levels(weight: Tensor, scale: Scale) -> np.ndarray:
    """Nearest int8 levels of a weight, scale along `scale.axis`."""
    shape = [1] * weight.ndim
    shape[scale.axis] = -1
    steps = torch.from_numpy(scale.value).reshape(shape)
    levels = torch.clamp(torch.round(weight.detach() / steps), scale.qmin, scale.qmax)
    return levels.to(torch.int8).numpy()
