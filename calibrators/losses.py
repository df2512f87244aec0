"""What reconstruction holds a unit's outputs against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibrators.lane_metric import class_divergence, has_classes, lane_metric, metric_error
from calibrators.recipe import (
    ChannelWeight,
    ClassError,
    FocusMode,
    ReconstructionRecipe,
    SelectionMode,
)
from calibrators.selective_focus import (
    Decoder,
    SensitivityCurve,
    channel_power,
    channel_slope,
    focused_error,
    inter_head_sensitivity,
    semantic_guided_focus,
    sensitivity_aware_selection,
)
from trt_lane.model import Head

Outputs = Mapping[str, Tensor]
# Frames whose lanes are decoded to measure a head's sensitivity.
SENSITIVITY_FRAMES = 16
# Below this mean confidence there is no foreground to focus on.
NO_FOREGROUND = 1e-4
# Share of the plain squares beside an error that is measured in lanes: what no lane shows now may
# show on another frame.
SQUARES_SHARE = 0.02


class UnitLoss:
    """AdaRound's, BRECQ's and QDrop's loss: mean over batch and space, sum over channels."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, step: int, out: Outputs, target: Outputs) -> Tensor:
        """Sum over the unit's outputs."""
        del step
        total = torch.zeros(())
        for name, value in out.items():
            squares = (value - target[name]).square()
            total = total + (squares.sum(1).mean() if squares.ndim > 1 else squares.mean())
        self._last = float(total.detach())
        return total

    def status(self) -> str:
        """The loss."""
        return f"loss {self._last:.3g}"

    def state(self) -> dict[str, Any]:
        """Nothing: every value stands for itself."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        del state


class FocusLoss:
    """Selective Focus on the final heads: SGF weighs places, SAS weighs heads.

    Each head's loss is divided by its value right after calibration (our reading), so that heads of
    any size start at 1 and the rounding term needs no tuning per model.

    Args:
        heads: descriptions.
        decoder: the model's.
        outputs: node name of every head in the graph.
        floats, quantised: outputs on the calibration frames, of the float network and of the
            quantised one right after calibration, by head name.
        recipe: its focus, selection and their numbers.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        decoder: Decoder,
        outputs: Mapping[str, str],
        floats: Outputs,
        quantised: Outputs,
        recipe: ReconstructionRecipe,
    ) -> None:
        self.heads, self.recipe = {h.name: h for h in heads}, recipe
        self.outputs = dict(outputs)
        self.warnings: list[str] = []
        self.focus = {h.name: self._usable_focus(h, floats) for h in heads}
        some = min(SENSITIVITY_FRAMES, len(next(iter(floats.values()))))
        few = {k: v[:some] for k, v in floats.items()}
        self.power, self.metric = {}, {}
        for head in heads:
            if recipe.channels is ChannelWeight.LANES and head.channel_axis is not None:
                self.metric[head.name] = lane_metric(head, decoder, few)
            if recipe.channels is ChannelWeight.SLOPE and head.channel_axis is not None:
                self.power[head.name] = channel_slope(head, decoder, few) ** -2
            else:
                self.power[head.name] = channel_power(head, floats)
        self.start = {}
        for head in heads:
            error = self._error(head, floats, quantised)
            self.start[head.name] = float(error) or 1.0
        self.curves: dict[str, SensitivityCurve] = {}
        self.selected = list(self.heads)
        self.share = dict.fromkeys(self.heads, 1.0)  # running |D_h| / |D_h0|
        if recipe.selection is not SelectionMode.OFF and len(heads) > 1:
            few_q = {k: v[:some] for k, v in quantised.items()}
            self.curves = {n: inter_head_sensitivity(decoder, few, few_q, n) for n in self.heads}
            self.decoder = decoder
            self._select({name: curve.at(1.0) for name, curve in self.curves.items()})

    def __call__(self, step: int, out: Outputs, target: Outputs) -> Tensor:
        """Sum over heads, each relative to its start, the selected ones at full weight."""
        heads = {name: target[node] for name, node in self.outputs.items()}
        heads_q = {name: out[node] for name, node in self.outputs.items()}
        total = torch.zeros(())
        for name, head in self.heads.items():
            error = self._error(head, heads, heads_q) / self.start[name]
            share = float(error.detach()) ** 0.5
            self.share[name] += 0.05 * (share - self.share[name])
            total = total + error * (1.0 if name in self.selected else self.recipe.unselected)
        every = max(1, self.recipe.steps // self.recipe.refreshes)
        if self.curves and step and step % every == 0:
            self._refresh(heads, heads_q)
        return total

    def status(self) -> str:
        """Remaining error of each head; a star marks the selected ones."""
        marks = {n: "*" if self.curves and n in self.selected else "" for n in self.heads}
        return " ".join(f"{n}{marks[n]} {self.share[n]:.2f}" for n in self.heads)

    def state(self) -> dict[str, Any]:
        """Which heads are selected, and the running errors that decide it."""
        return {"selected": list(self.selected), "share": dict(self.share)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self.selected, self.share = list(state["selected"]), dict(state["share"])

    def _error(self, head: Head, heads: Outputs, heads_q: Outputs) -> Tensor:
        mode = self.focus[head.name].value
        weight = semantic_guided_focus(head, heads, heads_q, mode, self.recipe.floor)
        value, value_q = heads[head.name], heads_q[head.name]
        squares = focused_error(value_q - value, weight, self.power[head.name])
        if head.name in self.metric:
            metric, axis = self.metric[head.name], head.channel_axis + 1
            in_lanes = metric_error(value_q - value, weight, metric, axis)
        elif self.recipe.classes is ClassError.DIVERGENCE and has_classes(head):
            in_lanes = class_divergence(head.confidence, value, value_q, weight)
        else:
            return squares
        return in_lanes + SQUARES_SHARE * squares

    def _usable_focus(self, head: Head, floats: Outputs) -> FocusMode:
        """The recipe's focus, or none where the confidence is nothing to go by."""
        if self.recipe.focus is FocusMode.OFF or head.confidence is None:
            return FocusMode.OFF
        weight = semantic_guided_focus(head, floats, floats, self.recipe.focus.value, 0.0)
        if float(weight.mean()) < NO_FOREGROUND:
            self.warnings.append(
                f"head {head.name}: the confidence ({head.confidence.head}) is zero on the "
                "calibration frames, so there is no foreground to focus on; every place counts the "
                "same. Calibrate on frames with lanes"
            )
            return FocusMode.OFF
        return self.recipe.focus

    def _refresh(self, heads: Outputs, heads_q: Outputs) -> None:
        if self.recipe.selection is SelectionMode.INTERPOLATED:
            found = {name: curve.at(self.share[name]) for name, curve in self.curves.items()}
        else:
            found = {}
            quantised = {k: v.detach() for k, v in heads_q.items()}
            for name in self.heads:
                curve = inter_head_sensitivity(self.decoder, heads, quantised, name, (0.0, 1.0))
                found[name] = curve.at(1.0)
        self._select(found)

    def _select(self, sensitivities: Mapping[str, float]) -> None:
        if not np.any(list(sensitivities.values())):
            return  # no head bends a lane: nothing to prefer
        k = self.recipe.top_k or None
        self.selected = sensitivity_aware_selection(sensitivities, k)
