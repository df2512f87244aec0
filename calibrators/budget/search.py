"""Plans of an accuracy budget, measured once each, and the ways to look for a better one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import fx

from calibrators.budget.judge import (
    AGREEMENT_WANTED,
    ROUNDING,
    Noise,
    Verdict,
    allowed_points,
    judge,
)
from calibrators.network_parts import Block, blocks, head_layers
from calibrators.sensitivity.evaluation import (
    Bar,
    EvaluationFrames,
    Outcome,
    lanes_of_form,
    lanes_of_forms,
    outcome,
)
from calibrators.sensitivity.layers import affordable_frames, part_sensitivity
from calibrators.sensitivity.macs import layer_macs, share_of
from calibrators.sensitivity.mixed import table_layers, without_layers
from calibrators.sensitivity.variants import FLOAT, FULL, Variants
from trt_lane.model import LaneModel
from trt_lane.scales import ScaleTable

# The share of MACs that may go to float for the sake of the agreement with float alone.
CHEAP_SHARE = 0.03
# Give-backs that are tried; each is a pass over the frames.
MOST_GIVE_BACKS = 16

Wanted = Callable[[Sequence[str], Verdict], bool]


class OutOfTime(Exception):  # noqa: N818 - no error: the search ends with what it has
    """The time for the search is up."""


class Search:
    """Plans measured so far, each once.

    Args:
        model: heads and decoder.
        graph_module: the folded float network.
        table: with everything quantised.
        frames: to measure on.
        budget_points: what the user lets INT8 cost.
        bar: progress.
        limit_s: seconds after which OutOfTime ends every measurement but the first.
        clock: seconds that pass.
    """

    def __init__(
        self,
        model: LaneModel,
        graph_module: fx.GraphModule,
        table: ScaleTable,
        frames: EvaluationFrames,
        budget_points: float,
        bar: Bar,
        limit_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model, self.graph_module, self.table = model, graph_module, table
        self.frames, self.budget_points = frames, budget_points
        self._bar, self._clock, self._start, self.limit_s = bar, clock, clock(), limit_s
        self.variants = Variants(graph_module, table)
        self.macs = layer_macs(graph_module)
        self.order = table_layers(table)
        own = head_layers(graph_module).values()
        self.in_heads = {path for layers in own for path in layers}
        self.known: dict[frozenset[str], Verdict] = {}
        self.noise: dict[frozenset[str], Noise] = {}
        self._lanes: dict[str, list] = {}  # of FLOAT and FULL, once they were measured
        self._float: Outcome | None = None
        self.allowed_points = budget_points  # on these frames, once something was measured

    def bar(self, items: Iterable, total: int, what: str) -> Iterator:
        """A progress bar that tells the time and ends with it."""
        for item in self._bar(items, total, lambda: f"{what}{self._time()}"):
            if self.known and self._clock() - self._start > self.limit_s:
                raise OutOfTime
            yield item

    def _time(self) -> str:
        if math.isinf(self.limit_s):
            return ""
        return f", {(self._clock() - self._start) / 60:.1f} of {self.limit_s / 60:g} min"

    def measure(self, plans: Sequence[Sequence[str]]) -> list[Verdict]:
        """Verdict of every plan, given by its layers in float; each is run once."""
        asked = [frozenset(layers) for layers in plans]
        new = [layers for layers in dict.fromkeys(asked) if layers not in self.known]
        if new:
            names = {layers: self._name(layers, i) for i, layers in enumerate(new)}
            lanes = self._measured_lanes(
                {
                    name: without_layers(self.table, self.graph_module, layers)
                    for layers, name in names.items()
                    if name not in (FLOAT, FULL)
                }
            )
            if self._float is None:
                self._float = outcome(self.frames, lanes[FLOAT], lanes[FLOAT])
            for layers, name in names.items():
                found = outcome(self.frames, lanes[name], lanes[FLOAT])
                self.known[layers], self.noise[layers] = judge(
                    self.frames, found, self._float, lanes[name], lanes[FLOAT]
                )
            known = (self.known[new[0]], self.noise[new[0]])
            self.allowed_points = allowed_points(self.budget_points, *known)
        return [self.known[layers] for layers in asked]

    def _name(self, layers: frozenset[str], number: int) -> str:
        if len(layers) == len(self.order):
            return FLOAT
        return f"plan/{number}" if layers else FULL

    def _measured_lanes(self, tables: dict[str, ScaleTable]) -> dict[str, list]:
        """Lanes of the forms, with those of FLOAT and FULL."""
        run = (self.variants, tables, self.frames, self.bar, f"plan {len(self.known) + 1}")
        if not self._lanes or len(tables) > 1:
            lanes = lanes_of_forms(self.model.decoder, *run)
            self._lanes = {name: lanes[name] for name in (FLOAT, FULL)}
            return lanes
        alone = {
            name: lanes_of_form(self.model.decoder, self.variants, table, *run[2:])
            for name, table in tables.items()
        }
        return {**self._lanes, **alone}

    def rank(self) -> tuple[list[str], list[Block]]:
        """Layers of the heads that bend lanes, worst first; blocks, worst per MAC first.

        Blocks that fit together into CHEAP_SHARE come before the others.
        """
        singles = [Block(path, (path,)) for path in self.order if path in self.in_heads]
        quantised = set(self.order)
        parts = [
            Block(block.name, tuple(p for p in block.layers if p in quantised))
            for block in blocks(self.graph_module)
        ]
        parts = [block for block in parts if block.layers]
        count = affordable_frames(self.graph_module, len(singles) + len(parts), len(self.frames))
        few = self.frames.first(count).inputs
        run = (self.model.decoder, self.graph_module, self.table, self.variants, few)
        named = [Block(f"head/{s.name}", s.layers) for s in singles] + parts
        found = part_sensitivity(named, *run, leave_one_out=False, bar=self.bar, what="parts")
        heads = [p.layers[0] for p in found if p.name.startswith("head/") and p.distortion_px > 0]
        rest = [p for p in found if not p.name.startswith("head/")]
        rest.sort(key=lambda p: -p.distortion_px / max(p.macs, 1))
        cheap, dear, share = [], [], self.float_share(heads)
        for part in rest:
            added = self.float_share(part.layers)
            if share + added <= CHEAP_SHARE:
                share += added
                cheap.append(part)
            else:
                dear.append(part)
        return heads, [Block(part.name, part.layers) for part in (*cheap, *dear)]

    def best(self) -> Sequence[str]:
        """Of the plans measured so far the one that holds the budget best; else all in float."""
        cheapest = sorted(self.known, key=self.float_share)
        for wanted in (self.is_good, self.holds_cheaply, self.holds_at_all):
            for layers in cheapest:
                if wanted(layers, self.known[layers]):
                    return tuple(layers)
        return self.order

    def has_lanes(self) -> bool:
        """Whether the float network or everything in INT8 finds a lane on the frames."""
        return any(map(len, (*self._lanes[FLOAT], *self._lanes[FULL])))

    def holds(self, verdict: Verdict) -> bool:
        """Whether the budget is held."""
        return verdict.loss_points <= self.allowed_points + ROUNDING

    def agrees(self, verdict: Verdict) -> bool:
        """Whether the lanes are the float network's."""
        return verdict.agreement_f1 >= AGREEMENT_WANTED

    def float_share(self, layers: Iterable[str]) -> float:
        """Share of the MACs in those layers."""
        return share_of(set(layers), self.macs)

    def is_good(self, layers: Sequence[str], verdict: Verdict) -> bool:
        """Budget and agreement are held, and nearly all is INT8."""
        return self.agrees(verdict) and self.holds_cheaply(layers, verdict)

    def holds_cheaply(self, layers: Sequence[str], verdict: Verdict) -> bool:
        """The budget is held, and nearly all is INT8."""
        return self.holds(verdict) and self.float_share(layers) <= CHEAP_SHARE

    def holds_at_all(self, layers: Sequence[str], verdict: Verdict) -> bool:
        """The budget is held."""
        del layers
        return self.holds(verdict)

    def shortest(
        self,
        heads: Sequence[str],
        ranked: Sequence[Block],
        wanted: Wanted,
        most_share: float = 1.0,
    ) -> tuple[str, ...] | None:
        """The fewest blocks of the ranking, on top of the heads' layers, that do what is wanted.

        By bisection: with more blocks in float the loss falls, noise aside; what is returned was
        measured.

        Args:
            heads: layers that are in float in every case.
            ranked: blocks in the order in which they go to float.
            wanted: of (layers in float, verdict).
            most_share: of the MACs in float.
        """
        plans = [tuple(heads)]
        for block in ranked:
            plans.append((*plans[-1], *(p for p in block.layers if p not in plans[-1])))
        plans = [plan for plan in plans[1:] if self.float_share(plan) <= most_share]
        if not plans or not wanted(plans[-1], self.measure(plans[-1:])[0]):
            return None
        low, high = 0, len(plans) - 1
        while low < high:
            middle = (low + high) // 2
            if wanted(plans[middle], self.measure([plans[middle]])[0]):
                high = middle
            else:
                low = middle + 1
        return plans[high]

    def give_back(self, layers: Sequence[str], wanted: Wanted) -> tuple[str, ...]:
        """Layers that may go back to INT8 one by one, the heaviest first, do."""
        kept = list(layers)
        heaviest = sorted(kept, key=lambda path: -self.macs[path])
        for path in heaviest[:MOST_GIVE_BACKS]:
            fewer = [p for p in kept if p != path]
            if wanted(fewer, self.measure([fewer])[0]):
                kept = fewer
        return tuple(kept)
