"""What the command lines share that plan a budget: options, the plan itself, its words."""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from collections.abc import Sequence

from torch import fx

from calibrators.budget.judge import STEADY_IOUS
from calibrators.budget.plan import Kind, Plan, apply_plan
from calibrators.budget.planner import plan_budget
from calibrators.budget.relearn import Learn, learned_around
from calibrators.sensitivity.evaluation import EvaluationFrames, evaluation_frames
from calibrators.sensitivity.macs import layer_macs
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError
from trt_lane.model import LaneModel
from trt_lane.progress import progress
from trt_lane.scales import ScaleTable

# A seed of their own: scenes that calibration has not seen, and not the test split.
DEFAULT_DATA = "synthetic:calibration:seed=1"
DEFAULT_FRAMES = 150
DEFAULT_MINUTES = 5.0
# A plan is confirmed on so many times the frames that it is searched on, where its data set has
# them and a pass of the network over them takes no longer than this, about a minute on two cores.
MORE_FRAMES = 4
MORE_MACS = 400e9
NO_BUDGET = "none"


def add_budget_options(parser: argparse.ArgumentParser) -> None:
    """Define --budget and what goes with it."""
    parser.add_argument(
        "--budget",
        type=points,
        help="points of F1 or accuracy (of agreement F1 with float where there are no labels) that "
        "INT8 may cost (without labels one lane at least, while that is 2 points or less); layers "
        "stay in float until it holds. 'none' for everything in INT8",
    )
    parser.add_argument(
        "--budget-data",
        default=DEFAULT_DATA,
        help="frames that the budget is measured on; labels are read here and nowhere else "
        f"(default {DEFAULT_DATA})",
    )
    parser.add_argument(
        "--budget-frames",
        type=int,
        default=DEFAULT_FRAMES,
        help=f"frames to search on (default {DEFAULT_FRAMES}); what is found is confirmed on "
        f"{MORE_FRAMES} times as many, fewer for a large network",
    )
    parser.add_argument(
        "--budget-minutes",
        type=float,
        default=DEFAULT_MINUTES,
        help="time for the search, and for a second one where more frames do not confirm what was "
        "found; then the best plan so far is taken, and says so (default "
        f"{DEFAULT_MINUTES:g}; inf for a plan that is the same on every machine)",
    )


def points(text: str) -> float | None:
    """A budget from the command line: a number from 0 to 100, or None for none at all."""
    if text.strip() in ("", NO_BUDGET):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no budget; expected points from 0 to 100, e.g. 0.3, or {NO_BUDGET}"
        )
    return value


def check_budget(options: argparse.Namespace) -> None:
    """A TrtLaneError where the options make no plan: asked for before hours of learning."""
    if options.budget is None:
        return
    if options.budget_frames < 1:
        raise TrtLaneError(f"--budget-frames is {options.budget_frames}; expected 1 or more")
    if not options.budget_minutes > 0:
        raise TrtLaneError(f"--budget-minutes is {options.budget_minutes:g}; expected more than 0")
    open_dataset(options.budget_data)


def planned(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    options: argparse.Namespace,
    learn: Learn | None = None,
) -> tuple[ScaleTable, str]:
    """The table that holds the budget of checked options, and what to tell people about it.

    Args:
        model: heads and decoder.
        graph_module: the folded float network.
        table: with everything quantised.
        options: of add_budget_options.
        learn: makes the table anew with layers in float; None where the recipe learns nothing.
    """
    frames = evaluation_frames(options.budget_data, model.image, options.budget_frames, progress)
    more = _more(frames, model, graph_module)
    limit_s = 60 * options.budget_minutes
    network = (model, graph_module, table)
    again = None if learn is None else _told(learn)
    plan = plan_budget(*network, frames, options.budget, progress, limit_s)
    found, plan = learned_around(*network, plan, more, again, progress)
    if more is not frames and not plan.holds():
        sys.stderr.write(
            f"{len(more)} frames do not confirm the plan: it loses {plan.after.loss_points:.2f} "
            "points there; searching again on them\n"
        )
        plan = plan_budget(*network, more, options.budget, progress, limit_s)
        found, plan = learned_around(*network, plan, more, again, progress)
    return apply_plan(found, graph_module, plan), describe(plan)


def _more(
    frames: EvaluationFrames, model: LaneModel, graph_module: fx.GraphModule
) -> EvaluationFrames:
    """More frames of the same data set; the same where there are none or they take too long."""
    affordable = int(MORE_MACS / max(sum(layer_macs(graph_module).values()), 1))
    wanted = min(MORE_FRAMES * len(frames), affordable, len(frames.dataset))
    if wanted <= len(frames):
        return frames
    return evaluation_frames(frames.dataset.spec, model.image, wanted, progress)


def _told(learn: Learn) -> Learn:
    """The same, and people know what they wait for."""

    def told(in_float: Sequence[str]) -> ScaleTable:
        layers, them = ("layer stays", "it") if len(in_float) == 1 else ("layers stay", "them")
        sys.stderr.write(f"{len(in_float)} {layers} in float; learning again around {them}\n")
        return learn(in_float)

    return told


def describe(plan: Plan) -> str:
    """The plan in a few lines."""
    lines = [
        f"budget {plan.budget_points:g} points on {plan.frames} frames of {plan.data}: "
        f"{plan.kind.value}, {100 * plan.int8_share:.2f} % of the MACs quantised"
    ]
    for reason in plan.reason:
        lines += textwrap.wrap(reason, 96, initial_indent="  ", subsequent_indent="  ")
    if plan.kind in (Kind.HEAD_LAYERS, Kind.BLOCKS):
        kept = ", ".join(plan.float_layers)
        lines += textwrap.wrap(f"kept in float: {kept}", 96, initial_indent="  ",
                               subsequent_indent="    ")  # fmt: skip
    low, high = plan.noise.low_points, plan.noise.high_points
    if plan.after.metric == "f1":
        at_half = 100 * (plan.after.float_value - plan.after.value)
        lines.append(
            f"  F1 is averaged over IoU {min(STEADY_IOUS):g} to {max(STEADY_IOUS):g}; at 0.5 "
            f"alone, where chance decides more, the loss is {at_half:.2f}"
        )
    lines.append(
        f"  loss {plan.after.loss_points:.2f} points, 95 % interval {low:.2f} to {high:.2f}; one "
        f"lane is {plan.noise.lane_points:.2f}"
    )
    return "\n".join(lines)
