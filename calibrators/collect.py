"""Runs the float network over calibration frames and gathers what scales are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from calibrators.observers import BINS, Statistics
from trt_lane.errors import TrtLaneError

# histc counts in the values' own type: a float32 bin stays at 2^24 for ever.
_EXACT_COUNT = 1 << 24

Progress = Callable[[Sequence, str], Iterable]


class _Magnitudes(fx.Interpreter):
    """One pass over the graph that sees every float tensor."""

    def __init__(self, graph_module: fx.GraphModule, see: Callable[[str, Tensor], None]) -> None:
        super().__init__(graph_module)
        self.see = see

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and show its result."""
        value = super().run_node(n)
        if "shape" in n.meta:
            self.see(n.name, value)
        return value


@torch.no_grad()
def collect(
    graph_module: fx.GraphModule,
    frames: Tensor,
    watched: dict[str, str],
    batch: int,
    progress: Progress,
) -> tuple[dict[str, Statistics], dict[str, float]]:
    """Statistics of the watched tensors, and the largest magnitude of every tensor.

    Args:
        graph_module: folded float network.
        frames: float32 (F, 3, h, w).
        watched: tensor (node name) -> key; tensors of one key are pooled.
        batch: frames per forward pass.
        progress: wraps an iterable with a bar.

    Returns:
        Statistics by key, largest magnitude by node name.

    Raises:
        TrtLaneError: a tensor holds NaN or infinity.
    """
    maxima: dict[str, float] = {}
    signed: set[str] = set()
    statistics = {key: Statistics() for key in watched.values()}

    def see_maximum(name: str, value: Tensor) -> None:
        largest = float(value.abs().max())
        if not np.isfinite(largest):
            raise TrtLaneError(
                f"tensor {name!r} holds NaN or infinity on a calibration frame; "
                "check the checkpoint and the frames"
            )
        maxima[name] = max(maxima.get(name, 0.0), largest)
        if name in watched and float(value.min()) < 0:
            signed.add(watched[name])

    for chunk in progress(_batches(frames, batch), "ranges"):
        _Magnitudes(graph_module, see_maximum).run(chunk)
    for name, key in watched.items():
        statistics[key].absmax = max(statistics[key].absmax, maxima[name])
        statistics[key].signed = key in signed

    def see_histogram(name: str, value: Tensor) -> None:
        if name in watched:
            add_values(statistics[watched[name]], value)

    for chunk in progress(_batches(frames, batch), "histograms"):
        _Magnitudes(graph_module, see_histogram).run(chunk)
    return statistics, maxima


def add_values(statistics: Statistics, value: Tensor) -> None:
    """Add a tensor of any shape; magnitudes above `statistics.absmax` are left out."""
    magnitude = value.abs().flatten()
    if statistics.absmax > 0:
        for part in magnitude.split(_EXACT_COUNT):
            counts = torch.histc(part, BINS, 0, statistics.absmax)
            statistics.counts += counts.numpy().astype(np.float64)
    statistics.total += int(torch.count_nonzero(magnitude))
    statistics.abs_sum += float(magnitude.sum(dtype=torch.float64))
    statistics.square_sum += float(magnitude.square().sum(dtype=torch.float64))


def _batches(frames: Tensor, batch: int) -> list[Tensor]:
    return [frames[i : i + batch] for i in range(0, len(frames), batch)]


def spread(total: int, wanted: int) -> Iterator[int]:
    """Indices of `wanted` items spread evenly over `total`; all of them when there are fewer."""
    count = min(total, wanted)
    return (i * total // count for i in range(count))
