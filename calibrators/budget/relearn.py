"""Confirm a plan on more frames, and learn anew once it is known what stays in float.

A network that learned with everything in INT8 has bent its other layers to make up for the one that
ruins its lanes. When the plan leaves that layer in float there is nothing to make up for, and what
was learned for it is in the way (ours; measured on a curve head's last layer: half of the loss).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from torch import fx

from calibrators.budget.judge import AGREEMENT_WANTED, ROUNDING, Noise, Verdict, judge
from calibrators.budget.plan import Kind, Plan
from calibrators.sensitivity.evaluation import (
    NO_BAR,
    Bar,
    EvaluationFrames,
    lanes_of_forms,
    outcome,
)
from calibrators.sensitivity.mixed import without_layers
from calibrators.sensitivity.variants import FLOAT, FULL, Variants
from trt_lane.lanes import LaneSet
from trt_lane.model import LaneModel
from trt_lane.scales import ScaleTable

# The table of the same recipe in which those layers were in float from the beginning.
Learn = Callable[[Sequence[str]], ScaleTable]

_PLAN = "plan"  # name of the plan's form among the measured ones


def is_mixed(plan: Plan) -> bool:
    """Whether some layers are in INT8 and some are not: else there is nothing to learn anew."""
    return plan.kind in (Kind.HEAD_LAYERS, Kind.BLOCKS)


def learned_around(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    plan: Plan,
    frames: EvaluationFrames,
    learn: Learn | None,
    bar: Bar = NO_BAR,
) -> tuple[ScaleTable, Plan]:
    """The cheaper plan where learned anew it holds the budget, else the plan, learned anew.

    Arguments and results are those of `learned_again`; nothing is learned without `learn`, nor
    where all is INT8 or all is float and there is no cheaper plan. Where `frames` are more than
    the plan was made on, it is measured on them first.
    """
    on = (model, graph_module, table)
    if plan.cheaper is not None and learn is not None:
        cheaper = confirmed(*on, plan.cheaper, frames, bar)
        other, cheaper = learned_again(*on, cheaper, frames, learn, bar)
        agrees = cheaper.after.agreement_f1 >= AGREEMENT_WANTED
        if other is not table and cheaper.holds() and agrees:
            return other, cheaper
    plan = confirmed(*on, plan, frames, bar)
    if is_mixed(plan) and learn is not None:
        return learned_again(*on, plan, frames, learn, bar)
    return table, plan


def confirmed(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    plan: Plan,
    frames: EvaluationFrames,
    bar: Bar = NO_BAR,
) -> Plan:
    """The plan with its figures on frames that are more than it was made on; else as it is.

    Of many plans that were measured on the same frames the one that is chosen has had luck there.
    """
    if plan.frames >= len(frames) or plan.kind is Kind.FLOAT:
        return plan
    tables = {_PLAN: without_layers(table, graph_module, plan.float_layers)}
    variants = Variants(graph_module, table)
    lanes = lanes_of_forms(model.decoder, variants, tables, frames, bar, "confirm")
    before, _ = _judged(frames, lanes, FULL)
    after, noise = _judged(frames, lanes, _PLAN)
    reason = (
        f"that was on {plan.frames} frames; on {len(frames)} it is {after.loss_points:.2f} points "
        f"and {after.distortion_px:.2f} px"
    )
    if plan.float_layers:
        reason += f", and {before.loss_points:.2f} with everything in INT8"
    return dataclasses.replace(
        plan,
        before=before,
        after=after,
        noise=noise,
        frames=len(frames),
        reason=(*plan.reason, reason),
    )


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
        frames: that the plan's figures are of.
        learn: makes the other table; minutes.
        bar: progress of the measurement.

    Returns:
        The table to apply the plan to, and the plan with its figures and one reason more.
    """
    other = learn(plan.float_layers)
    lanes = lanes_of_forms(model.decoder, Variants(graph_module, other), {}, frames, bar, "lanes")
    verdict, noise = _judged(frames, lanes, FULL)
    figures = f"{verdict.loss_points:.2f} points, {verdict.distortion_px:.2f} px"
    if not _is_better(verdict, plan):
        reason = f"learning again with those in float did not help ({figures}): not taken"
        return table, dataclasses.replace(plan, reason=(*plan.reason, reason))
    reason = f"learned again with those in float: {figures}"
    return other, dataclasses.replace(
        plan, after=verdict, noise=noise, reason=(*plan.reason, reason)
    )


def _judged(
    frames: EvaluationFrames, lanes: Mapping[str, Sequence[LaneSet]], form: str
) -> tuple[Verdict, Noise]:
    reference = outcome(frames, lanes[FLOAT], lanes[FLOAT])
    found = outcome(frames, lanes[form], lanes[FLOAT])
    return judge(frames, found, reference, lanes[form], lanes[FLOAT])


def _is_better(verdict: Verdict, plan: Plan) -> bool:
    """Whether budget and agreement are not lost for it, and it wins the budget or bends less."""
    before = plan.after
    if verdict.agreement_f1 < min(AGREEMENT_WANTED, before.agreement_f1):
        return False
    if not plan.holds() and verdict.loss_points <= plan.allowed_points + ROUNDING:
        return True
    return verdict.distortion_px < before.distortion_px and verdict.loss_points <= max(
        plan.allowed_points, before.loss_points
    )
