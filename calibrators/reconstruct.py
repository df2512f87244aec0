"""Reconstruction: learn roundings and steps so that a unit gives what it gave in float.

One loop for AdaRound, BRECQ, QDrop and Selective Focus; they differ in the unit, in the loss and in
the numbers of their recipe.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from calibrators.activation_cache import ActivationCache
from calibrators.learned import (
    annealed_beta,
    annealed_temperature,
)
from calibrators.losses import UnitLoss
from calibrators.recipe import (
    FocusMode,
    Order,
    ReconstructionRecipe,
    SelectionMode,
    UnitKind,
)
from calibrators.resume import Checkpoint
from calibrators.student import (
    Student,
    harden,
    inside,
    make_student,
    restore,
    set_activations,
    snapshot,
)
from calibrators.units import (
    Stretch,
    StretchToHeads,
    Unit,
    block_units,
    layer_units,
    network_unit,
)
from trt_lane.errors import TrtLaneError
from trt_lane.models._equalised import equalised
from trt_lane.scales import ScaleTable

Outputs = Mapping[str, Tensor]
SAVE_EVERY_S = 15.0
# Of the blocks that are learned before the network: QDrop's (Wei et al. 2022, section 4).
BLOCK_DROP = 0.5


class Loss(Protocol):
    """What a unit's outputs are held against."""

    def __call__(self, step: int, out: Outputs, target: Outputs) -> Tensor:
        """A scalar of float32; 0 when `out` equals `target`."""
        ...

    def status(self) -> str:
        """A few words for the progress bar."""
        ...

    def state(self) -> dict[str, Any]:
        """What its next values depend on: plain numbers and lists, for a run that is cut off."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        ...


def reconstruct(
    graph_module: fx.GraphModule,
    table: ScaleTable,
    frames: Tensor,
    recipe: ReconstructionRecipe,
    loss: Loss,
    seed: int = 0,
    cache_gb: float = 4.0,
    resume: Path | None = None,
    bar: Callable[[Iterable[int], int, Callable[[], str]], Iterable[int]] | None = None,
) -> ScaleTable:
    """A table with learned roundings and activation steps in the place of the observers'.

    Args:
        graph_module: the folded float network.
        table: where learning starts: steps by observers, weights to be rounded.
        frames: network inputs float32 (F, 3, h, w).
        recipe: units, steps, rates.
        loss: compares a unit's outputs.
        seed: of every random draw; the same seed gives the same table.
        cache_gb: at most so much memory for activations; beyond it they are computed again.
        resume: file that keeps the state, the last one too: a run that was cut off goes on from it.
            The caller removes it, when the table lies safely elsewhere.
        bar: wraps the steps with a progress bar.
    """
    student = make_student(graph_module, table, recipe)
    # The student's tensors come with the table's factors, so its targets must, too.
    teacher = equalised(graph_module, table.equalised)
    work = [
        (phase, unit, loss if phase.unit is recipe.unit else UnitLoss())
        for phase in phases(recipe)
        for unit in _UNITS[phase.unit](graph_module)
    ]
    checkpoint = Checkpoint(resume, _identity(table, frames, recipe, seed))
    state = checkpoint.load()
    done = 0 if state is None else state["unit"]
    if state is not None:
        restore(student, state)
        loss.restore(state["loss"])
    cache = ActivationCache(teacher, student.network, frames, cache_gb)
    for number in range(done, len(work)):
        phase, unit, held_against = work[number]
        set_activations(student, phase)
        first = state["step"] if state is not None and number == done else 0
        optimiser_state = state["optimiser"] if first else None

        def save(step: int, optimiser: torch.optim.Optimizer, number: int = number) -> None:
            learned = snapshot(student, optimiser)
            checkpoint.save({"unit": number, "step": step, "loss": loss.state(), **learned})

        label = f"{number + 1}/{len(work)} " if len(work) > 1 else ""

        steps: Iterable[int] = range(first, phase.steps)
        if bar is not None:
            steps = bar(
                steps,
                phase.steps - first,
                lambda label=label, shown=held_against: label + shown.status(),
            )
        run = _stretch(student.network, teacher, unit, phase)
        _learn_unit(
            student, run, cache, phase, held_against, seed + number, steps, optimiser_state, save
        )
        if phase.unit is recipe.unit:
            harden(student, unit)
        learned = snapshot(student, None)
        checkpoint.save({"unit": number + 1, "step": 0, "loss": loss.state(), **learned})
    return student.table(table)


def phases(recipe: ReconstructionRecipe) -> list[ReconstructionRecipe]:
    """The passes over all units: one, blocks before the network, or BRECQ's two."""
    if recipe.block_steps:
        blocks = dataclasses.replace(
            recipe,
            unit=UnitKind.BLOCK,
            steps=recipe.block_steps,
            block_steps=0,
            drop=BLOCK_DROP,
            temperature=1.0,
            regularisation=0.0,
            focus=FocusMode.OFF,
            selection=SelectionMode.OFF,
        )
        return [blocks, dataclasses.replace(recipe, block_steps=0)]
    if recipe.order is Order.TOGETHER:
        return [recipe]
    rounding = dataclasses.replace(recipe, learn_steps=False)
    after = dataclasses.replace(recipe, learn_rounding=False, steps=recipe.steps_after)
    return [rounding, after]


def _stretch(
    student: fx.GraphModule, teacher: fx.GraphModule, unit: Unit, phase: ReconstructionRecipe
) -> Stretch | StretchToHeads:
    if phase.on_heads and phase.unit is not UnitKind.NETWORK:
        return StretchToHeads(student, teacher, unit)
    return Stretch(student, unit)


def _learn_unit(
    student: Student,
    stretch: Stretch | StretchToHeads,
    cache: ActivationCache,
    recipe: ReconstructionRecipe,
    loss: Loss,
    seed: int,
    steps: Iterable[int],
    optimiser_state: dict | None,
    save: Callable[[int, torch.optim.Optimizer], None],
) -> None:
    """Run the given steps of one unit, from the optimiser's state where there is one."""
    unit = stretch.unit
    activations, weights, biases = inside(student, unit)
    drawn = cache.open(unit, mixed=recipe.drop > 0 and recipe.unit is not UnitKind.NETWORK)
    groups = []
    if recipe.learn_rounding:
        groups.append({"params": [w.v for w in weights], "lr": recipe.lr_rounding})
    if recipe.learn_steps:
        groups.append({"params": [a.log_step for a in activations], "lr": recipe.lr_steps})
    if recipe.learn_biases:
        groups.append({"params": [b.shift for b in biases], "lr": recipe.lr_biases})
    groups = [g for g in groups if g["params"]]
    if not groups:
        return
    optimiser = torch.optim.Adam(groups)
    if optimiser_state is not None:
        optimiser.load_state_dict(optimiser_state)
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    if recipe.learn_steps:
        for activation in activations:
            activation.drop = recipe.drop
    count = sum(w.v.numel() for w in weights) or 1
    saved_at = time.monotonic()
    for step in steps:
        # Seeded by step, so that a run that was cut off draws what a whole one draws.
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        chosen = torch.randint(cache.frame_count, (min(recipe.batch, cache.frame_count),))
        inputs, target = drawn(chosen)
        for weight in weights:
            weight.temperature = annealed_temperature(
                step, recipe.steps, recipe.temperature, recipe.warm_up
            )
        out = stretch(inputs)
        # Before the loss, which may decode the heads.
        if not all(map(_is_finite, out.values())):
            raise _diverged(unit, step, recipe)
        total = loss(step, out, target)
        beta = annealed_beta(step, recipe.steps, recipe.warm_up)
        if beta is not None and recipe.learn_rounding and weights:
            decided = sum(w.regulariser(beta) for w in weights)
            scale = 1 / count if recipe.on_heads else 1.0
            total = total + recipe.regularisation * scale * decided
        if not _is_finite(total):
            raise _diverged(unit, step, recipe)
        for group in optimiser.param_groups:
            if group["params"][0].ndim == 0:  # activation steps: cosine to 0, as QDrop does
                group["lr"] = recipe.lr_steps * _cosine(step, recipe.steps)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            save(step + 1, optimiser)
            saved_at = time.monotonic()
    # What the last step did shows in no loss.
    learned = [p for group in groups for p in group["params"]]
    if not all(map(_is_finite, (*learned, *(a.log_step.exp() for a in activations)))):
        raise _diverged(unit, recipe.steps - 1, recipe)
    for parameter in learned:
        parameter.requires_grad_(False)


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _diverged(unit: Unit, step: int, recipe: ReconstructionRecipe) -> TrtLaneError:
    rates = {
        "lr_rounding": recipe.lr_rounding if recipe.learn_rounding else None,
        "lr_steps": recipe.lr_steps if recipe.learn_steps else None,
        "lr_biases": recipe.lr_biases if recipe.learn_biases else None,
    }
    used = " / ".join(f"{name} ({rate:g})" for name, rate in rates.items() if rate is not None)
    return TrtLaneError(
        f"reconstruction of {unit.name}, step {step}: the loss is not finite; lower {used} in the "
        "recipe's [reconstruction]"
    )


def _cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _identity(table: ScaleTable, frames: Tensor, recipe: ReconstructionRecipe, seed: int) -> str:
    """What a saved state belongs to."""
    return f"{table.digest()}|{tuple(frames.shape)}|{recipe}|{seed}"


_UNITS: dict[UnitKind, Callable[[fx.GraphModule], list[Unit]]] = {
    UnitKind.LAYER: layer_units,
    UnitKind.BLOCK: block_units,
    UnitKind.NETWORK: lambda graph_module: [network_unit(graph_module)],
}
