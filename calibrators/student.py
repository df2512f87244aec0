"""The quantised network while it learns: where its learnable parts are, and their state."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import fx
from torch.nn.utils import parametrize

from calibrators.fake_quant import replace_weights
from calibrators.insert import insert_sites
from calibrators.learned import LearnedActivation, LearnedBias, LearnedRounding
from calibrators.recipe import Order, ReconstructionRecipe
from calibrators.units import Unit
from trt_lane.models._equalised import equalised
from trt_lane.scales import ScaleTable


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


def set_activations(student: Student, phase: ReconstructionRecipe) -> None:
    """While BRECQ learns roundings, all activations are float; else all are quantised."""
    float_now = phase.order is Order.ROUNDING_FIRST and not phase.learn_steps
    for activation in student.activations.values():
        activation.drop = 1.0 if float_now else 0.0


def inside(
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


def harden(student: Student, unit: Unit) -> None:
    """Decide the roundings of a unit and quantise all that it reads."""
    activations, weights, _ = inside(student, unit)
    for weight in weights:
        weight.hard = True
    for activation in activations:
        if activation.drop < 1:
            activation.drop = 0.0


def snapshot(student: Student, optimiser: torch.optim.Optimizer | None) -> dict:
    """The state of all that is learned; copies nothing."""
    return {
        "v": {name: w.v.detach() for name, w in student.weights.items()},
        "hard": [name for name, w in student.weights.items() if w.hard],
        "log_step": {key: a.log_step.detach() for key, a in student.activations.items()},
        "shift": {name: b.shift.detach() for name, b in student.biases.items()},
        "optimiser": None if optimiser is None else optimiser.state_dict(),
    }


def restore(student: Student, state: dict) -> None:
    """Go on from `snapshot()`."""
    for name, weight in student.weights.items():
        weight.v.data.copy_(state["v"][name])
        weight.hard = name in state["hard"]
    for name, bias in student.biases.items():
        bias.shift.data.copy_(state["shift"][name])
    for key, activation in student.activations.items():
        activation.log_step.data.copy_(state["log_step"][key])
