"""Keep in float the fewest MACs that hold an accuracy budget.

In the order: everything INT8; single layers of the heads, the most distorting first; blocks, the
most distorting per MAC first; everything in float. Every plan is measured as a whole.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

from torch import fx

from calibrators.budget.judge import AGREEMENT_WANTED
from calibrators.budget.plan import Kind, Plan
from calibrators.budget.search import CHEAP_SHARE, OutOfTime, Search, Wanted
from calibrators.network_parts import Block
from calibrators.sensitivity.evaluation import NO_BAR, Bar, EvaluationFrames
from trt_lane.model import LaneModel
from trt_lane.scales import ScaleTable

# Beyond it a mixed engine has little of INT8's speed and all of its trouble.
FLOAT_SHARE = 0.60
# So few MACs cost no time worth saving: layers of theirs are kept in float where the frames cannot
# tell a loss from chance and the lanes bend clearly less for it.
FREE_SHARE = 0.005
CLEARLY_LESS = 0.9  # of the distortion
# Times the budget: a plan that loses more does not hold it when it is learned anew, either
# (measured: that halves a loss).
NEAR = 3
# Plans of next to no MACs that are tried; each is a pass over the frames.
MOST_FREE = 6


def plan_budget(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    frames: EvaluationFrames,
    budget_points: float,
    bar: Bar = NO_BAR,
    limit_s: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Find the plan; without a limit, the same on every machine.

    A plan that holds the budget, agrees with float and leaves 97 % of the MACs in INT8 is looked
    for first, then one that holds the budget and leaves 97 %, then one that holds the budget.

    Args:
        model: heads and decoder.
        graph_module: the folded float network.
        table: with everything quantised.
        frames: to measure on; labels count where there are any.
        budget_points: points of F1 or accuracy (of agreement F1 without labels) that may be lost.
        bar: progress.
        limit_s: seconds for the search; the best plan measured by then is taken, and says so.
        clock: seconds that pass.
    """
    search = Search(model, graph_module, table, frames, budget_points, bar, limit_s, clock)
    try:
        layers, complete = _layers_in_float(search), True
    except OutOfTime:
        layers, complete = search.best(), False
    plan, cheaper = _plan(search, layers, complete), _cheaper(search, layers)
    return plan if not cheaper else dataclasses.replace(plan, cheaper=_plan(search, cheaper))


def _layers_in_float(search: Search) -> Sequence[str]:
    start = search.measure([()])[0]
    if search.is_good((), start) and _surely_holds(search, ()):
        return ()
    heads, blocks = search.rank()
    if search.is_good((), start):
        fit = _fit(search, _free_plans(search, heads, blocks), search.is_good)
        return _best_of_free(search, (), fit)
    in_heads = [tuple(heads[: i + 1]) for i in range(len(heads))]
    for wanted in (search.is_good, search.holds_cheaply):
        fit = _fit(search, in_heads, wanted)
        if wanted((), start):
            return _best_of_free(search, (), fit)
        if fit:
            return _best_of_free(search, search.give_back(fit[0], wanted), fit)
        found = search.shortest(heads, blocks, wanted, CHEAP_SHARE)
        if found is not None:
            return search.give_back(found, wanted)
    found = search.shortest(heads, blocks, search.holds_at_all)
    if found is not None and search.float_share(found) <= FLOAT_SHARE:
        return search.give_back(found, search.holds_at_all)
    return search.order


def _fit(search: Search, plans: Sequence[Sequence[str]], wanted: Wanted) -> list[Sequence[str]]:
    """The plans that do what is wanted."""
    verdicts = search.measure(plans)
    return [p for p, v in zip(plans, verdicts, strict=True) if wanted(p, v)]


def _best_of_free(
    search: Search, cheapest: Sequence[str], fit: Sequence[Sequence[str]]
) -> Sequence[str]:
    """Among plans of next to no MACs that of clearly least distortion, else the cheapest.

    Frames that the plan was not made on are held the better for it, and no engine gets slower.
    """
    plans = [
        cheapest,
        *(layers for layers in fit if search.float_share(layers) <= FREE_SHARE),
    ]
    distortions = [verdict.distortion_px for verdict in search.measure(plans)]
    best = min(range(len(plans)), key=distortions.__getitem__)
    return plans[best] if distortions[best] <= CLEARLY_LESS * distortions[0] else cheapest


def _surely_holds(search: Search, layers: Sequence[str]) -> bool:
    """Whether the budget is held wherever in its interval the loss may be."""
    return search.noise[frozenset(layers)].high_points <= search.allowed_points


def _free_plans(
    search: Search, heads: Sequence[str], blocks: Sequence[Block]
) -> list[tuple[str, ...]]:
    """Plans of next to no MACs: the heads' layers and then blocks, as they are ranked."""
    plans: list[tuple[str, ...]] = []
    kept: tuple[str, ...] = ()
    for layers in (*((path,) for path in heads), *(block.layers for block in blocks)):
        more = (*kept, *(path for path in layers if path not in kept))
        if more != kept and search.float_share(more) <= FREE_SHARE:
            kept = more
            plans.append(kept)
    count = min(len(plans), MOST_FREE)
    return [plans[(i + 1) * len(plans) // count - 1] for i in range(count)]


def _cheaper(search: Search, layers: Sequence[str]) -> tuple[str, ...]:
    """The plan of least loss that is nearly all INT8 where `layers` are many; () if none."""
    if search.float_share(layers) <= CHEAP_SHARE:
        return ()
    near = [
        plan
        for plan, verdict in search.known.items()
        if plan
        and search.float_share(plan) <= CHEAP_SHARE
        and verdict.loss_points <= NEAR * search.allowed_points
    ]
    best = min(near, key=lambda plan: search.known[plan].loss_points, default=frozenset())
    return tuple(path for path in search.order if path in best)


def _plan(search: Search, layers: Sequence[str], complete: bool = True) -> Plan:
    """The plan with its reasons."""
    chosen = tuple(path for path in search.order if path in set(layers))
    if not chosen:
        kind = Kind.ALL_INT8
    elif len(chosen) == len(search.order):
        kind = Kind.FLOAT
    else:
        kind = Kind.HEAD_LAYERS if set(chosen) <= search.in_heads else Kind.BLOCKS
    after = search.measure([chosen])[0]
    never = [path for path in search.macs if path not in set(search.order)]
    return Plan(
        kind=kind,
        budget_points=search.budget_points,
        float_layers=chosen,
        int8_share=1 - search.float_share((*chosen, *never)),
        before=search.measure([()])[0],
        after=after,
        noise=search.noise[frozenset(chosen)],
        frames=len(search.frames),
        data=search.frames.dataset.spec,
        reason=tuple(_reason(search, kind, chosen, complete)),
        complete=complete,
    )


def _reason(search: Search, kind: Kind, chosen: Sequence[str], complete: bool) -> list[str]:
    before, after = search.measure([(), chosen])
    noise = search.noise[frozenset(chosen)]
    budget = f"{search.budget_points:g} points"
    if search.allowed_points > search.budget_points:
        budget = f"one lane ({search.allowed_points:.2f} points)"
    if kind is Kind.ALL_INT8:
        reasons = [f"everything in INT8 loses {before.loss_points:.2f}, within {budget}"]
    elif kind is Kind.FLOAT:
        reasons = [
            f"everything in INT8 loses {before.loss_points:.2f} points, and no plan "
            + (
                f"with at least {100 * (1 - FLOAT_SHARE):.0f} % of the MACs in INT8 stays within "
                f"{budget}: FP16 as a whole is the better choice"
                if complete
                else f"that was measured stays within {budget}: FP16 as a whole holds it"
            )
        ]
    else:
        layers = "1 layer" if len(chosen) == 1 else f"{len(chosen)} layers"
        reasons = [
            f"everything in INT8 loses {before.loss_points:.2f} points (agreement F1 "
            f"{before.agreement_f1:.4f}); with {layers} in float "
            f"({100 * search.float_share(chosen):.2g} % of the MACs) it is "
            f"{after.loss_points:.2f} (agreement F1 {after.agreement_f1:.4f}), and the lanes bend "
            f"{after.distortion_px:.2f} px instead of {before.distortion_px:.2f}"
        ]
    if not complete:
        reasons.append(
            f"the search was stopped after {search.limit_s / 60:g} minutes, with "
            f"{len(search.known)} plans measured; to look longer: BUDGET_MINUTES="
            f"{3 * search.limit_s / 60:g} (--budget-minutes)"
        )
    if complete and not search.agrees(after):
        reasons.append(
            f"agreement F1 with float is {after.agreement_f1:.4f}; {AGREEMENT_WANTED} is not "
            f"reached with {100 * (1 - CHEAP_SHARE):.0f} % of the MACs in INT8"
        )
    if not search.has_lanes():
        reasons.append(
            "float and INT8 find no lane on these frames, so nothing was measured here: check the "
            "checkpoint, and give frames with lanes"
        )
    elif not before.float_value:
        reasons.append(
            "the float network itself scores 0 on these frames, so there was nothing to lose: "
            "check that the checkpoint, the labels and the model are of one data set"
        )
    if search.has_lanes() and noise.lane_points > search.budget_points:
        allowed = " and is what may be lost" if search.allowed_points > search.budget_points else ""
        reasons.append(
            f"on {len(search.frames)} frames one lane is {noise.lane_points:.2f} points, more "
            f"than the budget{allowed}: give more frames to tell losses this small"
        )
    return reasons
