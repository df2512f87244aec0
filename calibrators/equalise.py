"""Cross-layer equalisation: quiet channels get more of the one step that a tensor has.

Scaling a layer's output channel and unscaling what reads it leaves the float network as it is, but
moves range between activations and weights (Nagel et al. 2019, "Data-free quantization through
weight equalization and bias correction", section 4.1; for activations and with a strength alpha in
SmoothQuant, Xiao et al. 2023). The strength is searched by the error of what reads the tensors, as
AWQ (Lin et al. 2024) does for weights. Ours: that residual streams, concats and batch norms take
part; that quiet channels are raised and loud ones stay; that the error is measured on other frames
than the ranges; that factors are powers of two, which change no bit of the float network.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, fx

from calibrators.channel_ranges import Look, Seen
from calibrators.channels import FIXED, Channels, channels_of
from calibrators.collect import Progress, add_values, spread
from calibrators.fake_quant import fake_quantize
from calibrators.insert import quantisation_sites, quantised_layers
from calibrators.observers import Statistics
from calibrators.patches import Reader, readers_of
from calibrators.recipe import QuantRecipe
from calibrators.steps import activation_scale, edge_bits, row_scale
from trt_lane.scales import Equalisation, Scale

MOST_FRAMES = 64
ALPHAS = (0.25, 0.5, 0.75, 1.0)
LIMIT = 64.0
# What the readers of a group must gain, at least, for it to be touched.
LEAST_GAIN = 0.02
# Raised channels stay within an eighth of FP16's range: seen frames are not all frames.
LARGEST = 2.0**13


@torch.no_grad()
def find_equalisation(
    graph_module: fx.GraphModule,
    frames: Tensor,
    recipe: QuantRecipe,
    float_layers: Iterable[str] = (),
    progress: Progress = lambda items, _: items,
) -> Equalisation:
    """The factors that make what reads the quantised tensors most accurate, group by group.

    A group is what must be decided at once: all channels that some layer reads together. The
    candidates are (own / loudest)^-alpha of each channel's maximum and of its root mean square,
    found on every other frame; the error is measured on the rest. Nothing at all is one, too.

    Args:
        graph_module: the folded float network.
        frames: network inputs float32 (F, 3, h, w).
        recipe: its observers and bits.
        float_layers: module paths that stay in float.
        progress: wraps an iterable with a bar and a label.
    """
    channels = channels_of(graph_module)
    sites = quantisation_sites(graph_module, float_layers)
    chosen = list(spread(len(frames), MOST_FRAMES))
    halves = [chosen[::2], chosen[1::2] or chosen]
    looks = [Look(graph_module, channels, readers_of(graph_module, sites)) for _ in halves]
    generator = torch.Generator().manual_seed(recipe.seed)
    for look, half in zip(looks, halves, strict=True):
        for index in progress(half, "channels"):
            look.see(frames[index : index + 1], 1 / len(half), generator)
    bits = edge_bits(quantised_layers(graph_module, float_layers), recipe)[0]
    search = _Search(channels, *looks, recipe, bits)
    factors = np.ones(channels.count, np.float32)
    for group in progress(search.groups(), "equalise"):
        factors *= search.best(group)
    return Equalisation(
        *(
            {path: factors[ids] for path, ids in kind.items() if (factors[ids] != 1).any()}
            for kind in (channels.outputs, channels.inputs)
        )
    )


class _Search:
    """Tries factors on samples.

    Args:
        channels: of the network.
        fit: frames from which factors and steps are made.
        test: frames on which their error is measured.
        recipe: observers and bits.
        weight_bits: of the layers that have others than the recipe's, by module path.
    """

    def __init__(
        self,
        channels: Channels,
        fit: Look,
        test: Look,
        recipe: QuantRecipe,
        weight_bits: dict[str, int],
    ) -> None:
        self.channels, self.recipe, self.weight_bits = channels, recipe, weight_bits
        self.readers = test.readers
        self.fit = fit.seen
        self.all = {name: one | test.seen[name] for name, one in fit.seen.items()}
        # One reader of every tensor, by the key of its step: concats share theirs.
        self.sharers: dict[str, dict[str, Reader]] = {}
        for reader in fit.readers:
            self.sharers.setdefault(reader.site.key, {})[reader.site.tensor] = reader

    def groups(self) -> list[list[Reader]]:
        """Readers that share a class or a step, directly or over others."""
        found: list[tuple[set, list[Reader]]] = []
        for reader in self.readers:
            free: set = set(self._classes(reader).tolist()) - {FIXED} | {reader.site.key}
            joined = [group for group in found if group[0] & free]
            found = [group for group in found if not group[0] & free]
            members = [r for group in joined for r in group[1]]
            found.append((free.union(*(g[0] for g in joined)), [*members, reader]))
        return [members for _, members in found]

    def best(self, readers: list[Reader]) -> np.ndarray:
        """Factors of all classes; 1 for those of other groups."""
        tensors = {reader.site.tensor for reader in readers}
        nothing = np.ones(self.channels.count, np.float32)
        start = self.error(readers, nothing)
        tried = []
        for of_maximum in (True, False):
            for alpha in ALPHAS:
                factors = self._factors(self.fit, tensors, of_maximum, alpha)
                tried.append((self.error(readers, factors), of_maximum, alpha))
        error, of_maximum, alpha = min(tried, key=lambda one: one[0])
        if error >= (1 - LEAST_GAIN) * start:
            return nothing
        return self._factors(self.all, tensors, of_maximum, alpha)

    def error(self, readers: list[Reader], factors: np.ndarray) -> float:
        """Squared error over power of what the readers put out, summed over them."""
        steps: dict[str, Scale] = {}
        total = 0.0
        for reader in readers:
            samples = torch.cat(reader.samples)
            scaled = samples * self._of(reader, factors)[:, None]
            key = reader.site.key
            if key not in steps:
                steps[key] = self._step(key, factors)
            step = torch.from_numpy(steps[key].value)
            inputs = fake_quantize(scaled, step, steps[key].qmin, steps[key].qmax)
            exact = reader.outputs(samples, reader.weight)
            if reader.weight is None:
                found = inputs[:, :, 0] / self._of(reader, factors)
            else:
                found = reader.outputs(inputs, self._quantised(reader, factors))
            error = float((found - exact).square().mean())
            total += error / max(float(exact.square().mean()), 1e-30)
        return total

    def _classes(self, reader: Reader) -> np.ndarray:
        return self.channels.tensors[reader.site.tensor][1]

    def _of(self, reader: Reader, factors: np.ndarray) -> Tensor:
        return torch.from_numpy(factors[self._classes(reader)])

    def _step(self, key: str, factors: np.ndarray) -> Scale:
        statistics, signed = Statistics(), False
        for tensor in self.sharers[key]:
            seen = self.fit[tensor]
            largest = float((seen.largest * factors[seen.classes]).max())
            statistics.absmax = max(statistics.absmax, largest)
        for reader in self.sharers[key].values():
            scaled = torch.cat(reader.samples) * self._of(reader, factors)[:, None]
            add_values(statistics, scaled)
            signed = signed or bool((scaled < 0).any())
        statistics.signed = signed
        return activation_scale(statistics, self.recipe.activations, self.recipe.activations.bits)

    def _quantised(self, reader: Reader, factors: np.ndarray) -> Tensor:
        """The weight as it is rounded when the reader's inputs come with factors."""
        per_row = self._of(reader, factors).view(reader.groups, -1)[reader.group]
        weight = reader.weight / per_row[:, :, None]
        rows = weight.flatten(1)
        bits = self.weight_bits.get(reader.path, self.recipe.weights.bits)
        scale = row_scale(rows, self.recipe.weights, bits)
        step = torch.from_numpy(scale.value)[:, None, None]
        return fake_quantize(weight, step, scale.qmin, scale.qmax)

    def _factors(
        self, seen: dict[str, Seen], tensors: set[str], of_maximum: bool, alpha: float
    ) -> np.ndarray:
        """Powers of two near relative^-alpha, from 1 to LIMIT; 1 for channels that are dead."""
        largest = np.zeros(self.channels.count)
        for one in seen.values():
            np.maximum.at(largest, one.classes, one.largest)
        most = np.clip(LARGEST / np.maximum(largest, 1e-30), 1, LIMIT)
        wanted = np.rint(-alpha * np.log2(self._relative(seen, tensors, of_maximum)))
        exponent = np.clip(wanted, 0, np.floor(np.log2(most)))
        factors = np.exp2(exponent).astype(np.float32)
        factors[FIXED] = 1
        return factors

    def _relative(self, seen: dict[str, Seen], tensors: set[str], of_maximum: bool) -> np.ndarray:
        """How loud each class is where it is loudest, over the tensor's loudest; 1 for others."""
        relative = np.zeros(self.channels.count)
        for name in tensors:
            own = np.zeros(self.channels.count)
            measure = seen[name].largest if of_maximum else np.sqrt(seen[name].square_sum)
            np.maximum.at(own, seen[name].classes, measure)
            np.maximum(relative, own / max(own.max(), 1e-30), out=relative)
        return np.where(relative > 0, relative, 1)
