"""Ranges of every channel of a float network, with samples for what reads quantised tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from calibrators.channels import Channels
from calibrators.patches import Reader


@dataclass(eq=False)
class Seen:
    """What some frames show of one tensor, by place on its axis of channels.

    Attributes:
        classes: of the places.
        largest: magnitude.
        square_sum: over everything else.
    """

    classes: np.ndarray
    largest: np.ndarray
    square_sum: np.ndarray

    def __or__(self, other: Seen) -> Seen:
        """Of both sets of frames."""
        largest = np.maximum(self.largest, other.largest)
        return Seen(self.classes, largest, self.square_sum + other.square_sum)


class Look(fx.Interpreter):
    """Runs frames and keeps the ranges of all channels that may be scaled, and readers' samples."""

    def __init__(
        self, graph_module: fx.GraphModule, channels: Channels, readers: list[Reader]
    ) -> None:
        super().__init__(graph_module)
        self.channels = channels
        self.readers = [r for r in readers if r.site.tensor in channels.tensors]
        self.seen: dict[str, Seen] = {}

    def see(self, frame: Tensor, share: float, generator: torch.Generator) -> None:
        """Run one frame (1, 3, h, w), which fills a share of the samples."""
        self.share, self.generator = share, generator
        self.run(frame)

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and look at its result."""
        value = super().run_node(n)
        if n.name in self.channels.tensors:
            axis, classes = self.channels.tensors[n.name]
            others = [a for a in range(value.ndim) if a != axis]
            largest = value.abs().amax(others).numpy()
            squares = value.double().square().sum(others).numpy()
            seen = Seen(classes, largest, squares)
            self.seen[n.name] = self.seen[n.name] | seen if n.name in self.seen else seen
            for reader in self.readers:
                if reader.site.tensor == n.name:
                    reader.sample(value, axis, self.share, self.generator)
        return value
