"""A plan: which layers stay in float, what that costs and buys, and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum

from torch import fx

from calibrators.budget.judge import ROUNDING, Noise, Verdict, allowed_points
from calibrators.sensitivity.mixed import without_layers
from trt_lane.scales import ScaleTable


class Kind(str, Enum):
    """How far the planner had to go."""

    ALL_INT8 = "all INT8"
    HEAD_LAYERS = "head layers in float"
    BLOCKS = "blocks in float"
    FLOAT = "all float"


@dataclass(frozen=True)
class Plan:
    """Which layers stay in float.

    Attributes:
        kind: how far the planner had to go.
        budget_points: what the user lets INT8 cost.
        float_layers: module paths in graph order.
        int8_share: share of the MACs of convolutions and linear layers that stays quantised in the
            graph, as engines.macs.quantised_share counts it; an engine may run fewer in INT8.
        before, after: everything quantised, and the plan.
        noise: of the frames.
        frames: number of them.
        data: spec of the data set.
        reason: in words.
        complete: whether the search came to its end; else this is the best it had measured when
            its time was up.
        cheaper: where much goes to float, the best plan measured that keeps 97 % of the MACs in
            INT8, if it comes near the budget: learned anew it may hold it. Not kept with the table.
    """

    kind: Kind
    budget_points: float
    float_layers: tuple[str, ...]
    int8_share: float
    before: Verdict
    after: Verdict
    noise: Noise
    frames: int
    data: str
    reason: tuple[str, ...]
    complete: bool = True
    cheaper: Plan | None = None

    @property
    def allowed_points(self) -> float:
        """What may be lost on these frames."""
        return allowed_points(self.budget_points, self.after, self.noise)

    def holds(self) -> bool:
        """Whether the plan's figures are within what may be lost."""
        return self.after.loss_points <= self.allowed_points + ROUNDING

    def to_dict(self) -> dict:
        """Plain values for ScaleTable.info["plan"]."""
        return {
            "kind": self.kind.value,
            "budget_points": self.budget_points,
            "allowed_points": self.allowed_points,
            "float_layers": list(self.float_layers),
            "int8_macs_share": self.int8_share,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "noise": self.noise.to_dict(),
            "frames": self.frames,
            "data": self.data,
            "reason": list(self.reason),
            "complete": self.complete,
        }


def apply_plan(table: ScaleTable, graph_module: fx.GraphModule, plan: Plan) -> ScaleTable:
    """The table of a plan; what was decided goes along in its info."""
    mixed = without_layers(table, graph_module, plan.float_layers)
    return dataclasses.replace(mixed, info={**table.info, "plan": plan.to_dict()})
