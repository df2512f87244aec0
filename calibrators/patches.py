"""Small samples of what quantised tensors' readers see: their output errors are measured fast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from calibrators.fake_quant import channel_axis
from calibrators.insert import ADDS
from trt_lane.models._folded import TRANSPOSED, weighted_module
from trt_lane.scales import Site

# At most, per reader: places, outputs, and numbers in all samples of its input.
PLACES, ROWS, NUMBERS = 2048, 32, 1 << 20


@dataclass(eq=False)
class Reader:
    """What reads a quantised tensor: a layer, or a residual add, which passes it on.

    Attributes:
        path: of the layer, or the add's node.
        site: where the tensor is quantised.
        layer: None for an add.
        weight: of some of the layer's outputs, (R, inputs of a group, taps); None for an add.
        group: of the convolution's groups, to which each of the R outputs belongs, (R,).
        samples: of the tensor, (P, channels, taps).
    """

    path: str
    site: Site
    layer: nn.Module | None = None
    weight: Tensor | None = None
    group: Tensor | None = None
    samples: list[Tensor] = field(default_factory=list)

    def outputs(self, samples: Tensor, weight: Tensor | None) -> Tensor:
        """What it makes of samples, without bias: (P, outputs)."""
        if weight is None:
            return samples[:, :, 0]
        if isinstance(self.layer, TRANSPOSED):  # every tap makes an output of its own
            return samples[:, :, 0] @ weight.transpose(1, 2).flatten(0, 1).t()
        parts = samples.unflatten(1, (self.groups, -1)).flatten(2)  # (P, groups, inputs * taps)
        rows = weight.flatten(1)
        found = samples.new_empty(len(samples), len(rows))
        for group in self.group.unique():
            own = self.group == group
            found[:, own] = parts[:, group] @ rows[own].t()
        return found

    @property
    def groups(self) -> int:
        """Of the convolution; 1 for anything else."""
        return getattr(self.layer, "groups", 1)

    def sample(self, value: Tensor, axis: int, share: float, generator: torch.Generator) -> None:
        """Add what it reads at places drawn at random.

        Args:
            value: the tensor, (1, ...).
            axis: of its channels.
            share: of all the places that this tensor may fill.
            generator: of the draw.
        """
        taps = self.layer.weight[0, 0].numel() if isinstance(self.layer, nn.Conv2d) else 1
        most = max(1, min(PLACES, NUMBERS // (value.shape[axis] * taps)))
        count = max(1, round(most * share))
        if isinstance(self.layer, nn.Conv2d):
            self.samples.append(_patches(self.layer, value, count, generator))
        else:
            rows = value.movedim(axis, -1).flatten(0, -2)
            chosen = _draw(len(rows), min(count, len(rows)), generator)
            self.samples.append(rows[chosen][:, :, None])


def readers_of(graph_module: fx.GraphModule, sites: Iterable[Site]) -> list[Reader]:
    """Readers of all sites, without samples; layers that cannot be sampled are left out."""
    nodes = {node.name: node for node in graph_module.graph.nodes}
    found = []
    for site in sites:
        for name in site.users:
            layer = weighted_module(graph_module, nodes[name])
            if layer is not None and _is_sampled(layer):
                every = layer.weight.detach().transpose(0, channel_axis(layer))  # (out, in, ...)
                rows = torch.arange(min(len(every), ROWS)) * len(every) // min(len(every), ROWS)
                weight = every[rows].reshape(len(rows), every.shape[1], -1)
                group = rows // (len(every) // getattr(layer, "groups", 1))
                found.append(Reader(nodes[name].target, site, layer, weight, group))
            elif layer is None and nodes[name].target in ADDS:
                found.append(Reader(name, site))
    return found


def _is_sampled(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, nn.Conv2d)) or (
        isinstance(layer, TRANSPOSED) and layer.groups == 1
    )


def _patches(
    layer: nn.Conv2d, value: Tensor, count: int, generator: torch.Generator
) -> Tensor:  # (count, inputs, taps)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(value, layer._reversed_padding_repeated_twice, mode)[0]
    at = []
    for size, kernel, stride, dilation in zip(
        padded.shape[1:], layer.kernel_size, layer.stride, layer.dilation, strict=True
    ):
        places = (size - dilation * (kernel - 1) - 1) // stride + 1
        start = _draw(places, count, generator) * stride
        at.append(start[:, None] + torch.arange(kernel) * dilation)  # (count, kernel)
    taken = padded[:, at[0][:, :, None], at[1][:, None, :]]  # (inputs, count, kh, kw)
    return taken.transpose(0, 1).flatten(2)


def _draw(size: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(size, (count,), generator=generator)
