"""Learn anew once it is known what stays in float.

A network that learned with everything in INT8 has bent its other layers to make up for the one that
ruins its lanes. When the plan leaves that layer in float there is nothing to make up for, and what
was learned for it is in the way (ours; measured on a curve head's last layer: half of the loss).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from torch import fx

from calibrators.budget.judge import AGREEMENT_WANTED, Verdict, judge
from calibrators.budget.plan import Kind, Plan
from calibrators.sensitivity.evaluation import (
    NO_BAR,
    Bar,
    EvaluationFrames,
    lanes_of_forms,
    outcome,
)
from calibrators.sensitivity.variants import FLOAT, FULL, Variants
from trt_lane.model import LaneModel
from trt_lane.scales import ScaleTable

# The table of the same recipe in which those layers were in float from the beginning.
Learn = Callable[[Sequence[str]], ScaleTable]


def is_mixed(plan: Plan) -> bool:
    """Whether some layers are in INT8 and some are not: else there is nothing to learn anew."""
    return plan.kind in (Kind.HEAD_LAYERS, Kind.BLOCKS)


def learned_around(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    plan: Plan,
    frames: EvaluationFrames,
    learn: Learn,
    bar: Bar = NO_BAR,
) -> tuple[ScaleTable, Plan]:
    """The cheaper plan where learned anew it holds the budget, else the plan, learned anew.

    Arguments and results are those of `learned_again`; nothing is learned where all is INT8 or all
    is float, and there is no cheaper plan.
    """
    run = (frames, learn, bar)
    if plan.cheaper is not None:
        other, cheaper = learned_again(model, graph_module, table, plan.cheaper, *run)
        if other is not table and _holds(cheaper.after, plan.budget_points):
            return other, cheaper
    if is_mixed(plan):
        return learned_again(model, graph_module, table, plan, *run)
    return table, plan


def learned_again(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    plan: Plan,
    frames: EvaluationFrames,
    learn: Learn,
    bar: Bar = NO_BAR,
) -> tuple[ScaleTable, Plan]:
    """The table learned around a plan's float layers where it is the better one, else `table`.

    Args:
        model: heads and decoder.
        graph_module: the folded float network.
        table: that the plan was made on, with everything quantised.
        plan: with some layers in float.
        frames: that the plan was measured on.
        learn: makes the other table; minutes.
        bar: progress of the measurement.

    Returns:
        The table to apply the plan to, and the plan with its figures and one reason more.
    """
    other = learn(plan.float_layers)
    lanes = lanes_of_forms(model.decoder, Variants(graph_module, other), {}, frames, bar, "lanes")
    reference = outcome(frames, lanes[FLOAT], lanes[FLOAT])
    found = outcome(frames, lanes[FULL], lanes[FLOAT])
    verdict, noise = judge(frames, found, reference, lanes[FULL], lanes[FLOAT])
    figures = f"{verdict.loss_points:.2f} points, {verdict.distortion_px:.2f} px"
    if not _is_better(verdict, plan):
        reason = f"learning again with those in float did not help ({figures}): not taken"
        return table, dataclasses.replace(plan, reason=(*plan.reason, reason))
    reason = f"learned again with those in float: {figures}"
    return other, dataclasses.replace(
        plan, after=verdict, noise=noise, reason=(*plan.reason, reason)
    )


def _holds(verdict: Verdict, budget_points: float) -> bool:
    return verdict.loss_points <= budget_points and verdict.agreement_f1 >= AGREEMENT_WANTED


def _is_better(verdict: Verdict, plan: Plan) -> bool:
    """Whether the lanes bend less, and neither budget nor agreement is lost for it."""
    before = plan.after
    return (
        verdict.distortion_px < before.distortion_px
        and verdict.loss_points <= max(plan.budget_points, before.loss_points)
        and verdict.agreement_f1 >= min(AGREEMENT_WANTED, before.agreement_f1)
    )
