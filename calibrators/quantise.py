"""A whole recipe: observers, then reconstruction where the recipe has one."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, fx

from calibrators.calibrate import calibrate
from calibrators.collect import Progress, spread
from calibrators.fake_quant import quantised_network
from calibrators.losses import FocusLoss, UnitLoss
from calibrators.network_parts import head_layers
from calibrators.recipe import HeadPrecision, QuantRecipe
from calibrators.reconstruct import reconstruct
from calibrators.selective_focus import decode_all
from trt_lane.metrics.lane_distortion import mean_lane_distortion_score
from trt_lane.model import LaneModel
from trt_lane.models._folded import heads_of
from trt_lane.scales import Equalisation, ScaleTable

# Frames on which an equalised and a plain table are compared.
LANE_FRAMES = 64
# The equalised one has to win by this: on frames that it has not seen it wins less.
EQUALISED_SHARE = 0.75

Bar = Callable[[Iterable[int], int, Callable[[], str]], Iterable[int]]


def quantise(
    model: LaneModel,
    graph_module: fx.GraphModule,
    frames: Tensor,
    recipe: QuantRecipe,
    *,
    cache_gb: float = 4.0,
    resume: Path | None = None,
    progress: Progress = lambda items, _: items,
    bar: Bar | None = None,
    in_float: Iterable[str] = (),
) -> ScaleTable:
    """A ScaleTable by a recipe.

    Args:
        model: heads and decoder.
        graph_module: the folded float network.
        frames: network inputs float32 (F, 3, h, w); no labels.
        recipe: the method.
        cache_gb: memory for calibration activations.
        resume: file that keeps the state of a long reconstruction.
        progress: bars over collections.
        bar: bar over reconstruction steps, with a label that changes.
        in_float: module paths that stay in float besides the model's own.
    """
    start = time.monotonic()
    float_layers = (*model.float_layers, *in_float)
    if recipe.heads is HeadPrecision.FLOAT:
        own = head_layers(graph_module).values()
        float_layers = (*float_layers, *itertools.chain.from_iterable(own))
    table = calibrate(graph_module, frames, recipe, float_layers, progress)
    if table.equalised:
        plain = calibrate(
            graph_module, frames, recipe, float_layers, progress, equalisation=Equalisation()
        )
        table = _better_of_two(model, graph_module, frames, recipe, table, plain)
    if recipe.reconstruction is None:
        return table
    warnings: list[str] = []
    if recipe.reconstruction.on_heads:
        loss = FocusLoss(
            model.heads,
            model.decoder,
            {name: node.name for name, node in heads_of(graph_module).items()},
            head_outputs(graph_module, frames, recipe.batch),
            head_outputs(quantised_network(graph_module, table), frames, recipe.batch),
            recipe.reconstruction,
        )
        warnings = loss.warnings
    else:
        loss = UnitLoss()
    learned = reconstruct(
        graph_module,
        table,
        frames,
        recipe.reconstruction,
        loss,
        recipe.seed,
        cache_gb,
        resume,
        bar,
    )
    warnings = [*table.info["warnings"], *warnings]
    info = {**table.info, "seconds": round(time.monotonic() - start, 3), "warnings": warnings}
    return dataclasses.replace(learned, info=info)


def _better_of_two(
    model: LaneModel,
    graph_module: fx.GraphModule,
    frames: Tensor,
    recipe: QuantRecipe,
    table: ScaleTable,
    plain: ScaleTable,
) -> ScaleTable:
    """The equalised table where it clearly bends the lanes less, else the plain one.

    Every layer's error is smaller with the factors, but what a network makes of all of them
    together is another matter: where the lanes hardly move, it may be more (ours).
    """
    few = frames[list(spread(len(frames), LANE_FRAMES))]
    lanes = decode_all(model.decoder, head_outputs(graph_module, few, recipe.batch))
    distortions = []
    for form in (table, plain):
        heads = head_outputs(quantised_network(graph_module, form), few, recipe.batch)
        found = decode_all(model.decoder, heads)
        distortions.append(mean_lane_distortion_score(lanes, found))
    kept = table if distortions[0] <= EQUALISED_SHARE * distortions[1] else plain
    facts = {
        "layers": len({*kept.equalised.outputs, *kept.equalised.inputs}),
        "distortion_px": round(distortions[0], 3),
        "plain_distortion_px": round(distortions[1], 3),
    }
    return dataclasses.replace(kept, info={**kept.info, "equalised": facts})


@torch.no_grad()
def head_outputs(network: fx.GraphModule, frames: Tensor, batch: int) -> dict[str, Tensor]:
    """Heads (F, *shape) of all frames."""
    parts = [network(chunk) for chunk in frames.split(batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
