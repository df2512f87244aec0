"""Reconstruction: learn roundings and steps so that a unit gives what it gave in float.

One loop for AdaRound, BRECQ, QDrop and Selective Focus; they differ in the unit, in the loss and in
the numbers of their recipe.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.nn.utils import parametrize

from calibrators.activation_cache import ActivationCache
from calibrators.fake_quant import replace_weights
from calibrators.insert import insert_sites
from calibrators.learned import (
    LearnedActivation,
    LearnedBias,
    LearnedRounding,
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
from calibrators.units import Stretch, Unit, block_units, layer_units, network_unit
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


@dataclass(frozen=True, eq=False)
class Student:
    """The quantised network while it learns."""

    network: fx.GraphModule
    activations: dict[str, LearnedActivation]
    weights: dict[str, LearnedRounding]
    biases: dict[str, LearnedBias]

    def table(self, start: ScaleTable) -> ScaleTable:
        """What was learned, hardened."""
        return dataclasses.replace(
            start,
            activations={key: a.scale() for key, a in self.activations.items()},
            rounded={name: w.levels() for name, w in self.weights.items()},
            biases={
                name: self.network.get_submodule(name.rpartition(".")[0]).bias.detach().numpy()
                for name in self.biases
            },
        )


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
        _restore(student, state)
    cache = ActivationCache(teacher, student.network, frames, cache_gb)
    for number in range(done, len(work)):
        phase, unit, held_against = work[number]
        _set_activations(student, phase)
        first = state["step"] if state is not None and number == done else 0
        optimiser_state = state["optimiser"] if first else None
        if first:
            held_against.restore(state["loss"])

        def save(
            step: int,
            optimiser: torch.optim.Optimizer,
            number: int = number,
            held_against: Loss = held_against,
        ) -> None:
            learned = _snapshot(student, optimiser)
            checkpoint.save({"unit": number, "step": step, "loss": held_against.state(), **learned})

        label = f"{number + 1}/{len(work)} " if len(work) > 1 else ""

        steps: Iterable[int] = range(first, phase.steps)
        if bar is not None:
            steps = bar(
                steps,
                phase.steps - first,
                lambda label=label, shown=held_against: label + shown.status(),
            )
        _learn_unit(
            student, unit, cache, phase, held_against, seed + number, steps, optimiser_state, save
        )
        if phase.unit is recipe.unit:
            _harden(student, unit)
        checkpoint.save({"unit": number + 1, "step": 0, **_snapshot(student, None)})
    return student.table(table)


def make_student(
    graph_module: fx.GraphModule, table: ScaleTable, recipe: ReconstructionRecipe
) -> Student:
    """The quantised network with everything learnable in it, all frozen at first."""
    graph_module = equalised(graph_module, table.equalised)
    activations: dict[str, LearnedActivation] = {}

    def make(site: object) -> LearnedActivation:
        activations[site.key] = LearnedActivation(table.activations[site.key])
        return activations[site.key]

    network = insert_sites(graph_module, table.sites, make)
    weights = {
        name: LearnedRounding(graph_module.get_parameter(name), scale)
        for name, scale in table.weights.items()
    }
    for weight in weights.values():
        weight.hard = not recipe.learn_rounding
    replace_weights(network, weights)
    biases: dict[str, LearnedBias] = {}
    for node in graph_module.graph.nodes if recipe.learn_biases else ():
        name = f"{node.target}.bias"
        if f"{node.target}.weight" not in weights or name in biases:
            continue
        layer = network.get_submodule(node.target)
        if layer.bias is not None:
            biases[name] = LearnedBias(layer.bias, max(table.maxima[node.name], 1e-6) / 127)
            parametrize.register_parametrization(layer, "bias", biases[name])
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return Student(network, activations, weights, biases)


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


def _set_activations(student: Student, phase: ReconstructionRecipe) -> None:
    """While BRECQ learns roundings, all activations are float; else all are quantised."""
    float_now = phase.order is Order.ROUNDING_FIRST and not phase.learn_steps
    for activation in student.activations.values():
        activation.drop = 1.0 if float_now else 0.0


def _learn_unit(
    student: Student,
    unit: Unit,
    cache: ActivationCache,
    recipe: ReconstructionRecipe,
    loss: Loss,
    seed: int,
    steps: Iterable[int],
    optimiser_state: dict | None,
    save: Callable[[int, torch.optim.Optimizer], None],
) -> None:
    """Run the given steps of one unit, from the optimiser's state where there is one."""
    activations, weights, biases = _inside(student, unit)
    stretch = Stretch(student.network, unit)
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
            scale = 1 / count if recipe.unit is UnitKind.NETWORK else 1.0
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


def _inside(
    student: Student, unit: Unit
) -> tuple[list[LearnedActivation], list[LearnedRounding], list[LearnedBias]]:
    """What is learnable in a unit."""
    nodes = {n.name: n for n in student.network.graph.nodes}
    layers = {nodes[n].target for n in unit.nodes if nodes[n].op == "call_module"}
    weights = [w for name, w in student.weights.items() if name.rpartition(".")[0] in layers]
    keys: list[str] = []
    for name in unit.nodes:
        for source in nodes[name].all_input_nodes:
            key = source.target.removeprefix("quantize_") if source.op == "call_module" else ""
            is_site = source.name.startswith("quantize_") and key in student.activations
            if is_site and key not in keys:
                keys.append(key)
    biases = [b for name, b in student.biases.items() if name.rpartition(".")[0] in layers]
    return [student.activations[key] for key in keys], weights, biases


def _harden(student: Student, unit: Unit) -> None:
    activations, weights, _ = _inside(student, unit)
    for weight in weights:
        weight.hard = True
    for activation in activations:
        if activation.drop < 1:
            activation.drop = 0.0


def _cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _snapshot(student: Student, optimiser: torch.optim.Optimizer | None) -> dict:
    return {
        "v": {name: w.v.detach() for name, w in student.weights.items()},
        "hard": [name for name, w in student.weights.items() if w.hard],
        "log_step": {key: a.log_step.detach() for key, a in student.activations.items()},
        "shift": {name: b.shift.detach() for name, b in student.biases.items()},
        "optimiser": None if optimiser is None else optimiser.state_dict(),
    }


def _restore(student: Student, state: dict) -> None:
    for name, weight in student.weights.items():
        weight.v.data.copy_(state["v"][name])
        weight.hard = name in state["hard"]
    for name, bias in student.biases.items():
        bias.shift.data.copy_(state["shift"][name])
    for key, activation in student.activations.items():
        activation.log_step.data.copy_(state["log_step"][key])


def _identity(table: ScaleTable, frames: Tensor, recipe: ReconstructionRecipe, seed: int) -> str:
    """What a saved state belongs to."""
    return f"{table.digest()}|{tuple(frames.shape)}|{recipe}|{seed}"


_UNITS: dict[UnitKind, Callable[[fx.GraphModule], list[Unit]]] = {
    UnitKind.LAYER: layer_units,
    UnitKind.BLOCK: block_units,
    UnitKind.NETWORK: lambda graph_module: [network_unit(graph_module)],
}
