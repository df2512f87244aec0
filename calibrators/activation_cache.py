"""Inputs and targets of a unit for every calibration frame, kept in memory as far as it goes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from calibrators.units import Unit
from trt_lane.models._folded import INPUT

Batch = tuple[dict[str, Tensor], dict[str, Tensor]]
# Inputs from the quantised prefix, the same from the float network, targets.
Parts = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]
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
        # The image is the same to both networks, and is held once for all units: as the frames.
        made = tuple(name for name in unit.inputs if name != INPUT)

        def compute(indices: Tensor) -> Parts:
            frames = self.frames[indices]
            floats = _tap(self.teacher, frames, (*made, *unit.outputs))
            targets = {name: floats[name] for name in unit.outputs}
            inputs_float = {name: floats[name] for name in made}
            return _tap(self.student, frames, made) if made else {}, inputs_float, targets

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
            if INPUT in unit.inputs:
                image = {INPUT: self.frames[indices]}
                # In the unit's order: each input draws in its turn.
                inputs = {name: {**inputs, **image}[name] for name in unit.inputs}
                inputs_float = {**inputs_float, **image}
            if mixed and not only_image:
                inputs = {
                    name: torch.where(torch.rand_like(value) < 0.5, inputs_float[name], value)
                    for name, value in inputs.items()
                }
            return inputs, targets

        return draw

    def _stored(self, compute: Callable[[Tensor], Parts]) -> Callable[[Tensor], Parts]:
        stored: Parts = ({}, {}, {})
        for chosen in torch.arange(self.frame_count).split(_CHUNK):
            for part, found in zip(stored, compute(chosen), strict=True):
                for name, value in found.items():
                    # Filled in place: chunks that wait to be joined would take the budget twice.
                    if name not in part:
                        part[name] = value.new_empty(self.frame_count, *value.shape[1:])
                    part[name][chosen] = value
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
