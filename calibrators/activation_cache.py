"""Inputs and targets of a unit for every calibration frame, kept in memory as far as it goes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from calibrators.units import Unit
from trt_lane.models._folded import INPUT

Batch = tuple[dict[str, Tensor], dict[str, Tensor]]
_CHUNK = 4  # frames that run through a network at once


class ActivationCache:
    """What a unit reads and should give, from the quantised prefix and from the float network.

    Args:
        teacher: the folded float network.
        student: the quantised network, whose prefix is already learned.
        frames: network inputs (F, 3, h, w).
        budget_gb: memory that the tensors of one unit may take; a unit that needs more has the
            prefix run again for every batch.
    """

    def __init__(
        self, teacher: fx.GraphModule, student: fx.GraphModule, frames: Tensor, budget_gb: float
    ) -> None:
        self.teacher, self.student, self.frames = teacher, student, frames
        self.budget_bytes = budget_gb * 2**30
        self.frame_count = len(frames)

    def open(self, unit: Unit, mixed: bool) -> Callable[[Tensor], Batch]:
        """A function from frame indices to the unit's inputs and targets.

        Args:
            unit: whose tensors.
            mixed: whether each input element is float with probability one half (QDrop).
        """
        only_image = unit.inputs == (INPUT,)

        def compute(indices: Tensor) -> tuple[dict, dict, dict]:
            frames = self.frames[indices]
            floats = _tap(self.teacher, frames, (*unit.inputs, *unit.outputs))
            targets = {name: floats[name] for name in unit.outputs}
            if only_image:
                return {INPUT: frames}, {}, targets
            inputs_float = {name: floats[name] for name in unit.inputs}
            return _tap(self.student, frames, unit.inputs), inputs_float, targets

        per_frame = sum(
            t.numel() * t.element_size()
            for part in compute(torch.tensor([0]))
            for t in part.values()
        )
        if per_frame * self.frame_count <= self.budget_bytes:
            fetch = self._stored(compute)
        else:
            fetch = compute

        def draw(indices: Tensor) -> Batch:
            inputs, inputs_float, targets = fetch(indices)
            if mixed and not only_image:
                inputs = {
                    name: torch.where(torch.rand_like(value) < 0.5, inputs_float[name], value)
                    for name, value in inputs.items()
                }
            return inputs, targets

        return draw

    def _stored(self, compute: Callable) -> Callable[[Tensor], tuple[dict, dict, dict]]:
        chunks = [compute(c) for c in torch.arange(self.frame_count).split(_CHUNK)]
        stored = tuple(
            {name: torch.cat([chunk[part][name] for chunk in chunks]) for name in chunks[0][part]}
            for part in range(3)
        )
        return lambda indices: tuple({k: v[indices] for k, v in part.items()} for part in stored)


class _Tap(fx.Interpreter):
    """Stops as soon as all wanted tensors are there."""

    def __init__(self, graph_module: fx.GraphModule, wanted: tuple[str, ...]) -> None:
        super().__init__(graph_module, garbage_collect_values=True)
        self.wanted = set(wanted)
        self.found: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run a node while something is still wanted."""
        if len(self.found) == len(self.wanted):
            return None
        value = super().run_node(n)
        if n.name in self.wanted:
            self.found[n.name] = value
        return value


@torch.no_grad()
def _tap(graph_module: fx.GraphModule, frames: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    tap = _Tap(graph_module, names)
    tap.run(frames)
    return {name: tap.found[name] for name in names}
