"""All of a sensitivity report's measurements, from a network, its table and some frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from calibrators.network_parts import Block, blocks, head_layers
from calibrators.selective_focus import decode_all
from calibrators.sensitivity.evaluation import (
    NO_BAR,
    Bar,
    EvaluationFrames,
    Outcome,
    lanes_of_forms,
    outcomes,
)
from calibrators.sensitivity.heads import HeadSensitivity, head_sensitivity
from calibrators.sensitivity.layers import (
    PartSensitivity,
    affordable_frames,
    affordable_layers,
    part_sensitivity,
)
from calibrators.sensitivity.macs import layer_macs
from calibrators.sensitivity.mixed import only_layers, table_layers
from calibrators.sensitivity.variants import FLOAT, FULL, Variants
from trt_lane.lanes import LaneSet
from trt_lane.metrics.lane_distortion import mean_lane_distortion_score
from trt_lane.model import LaneModel
from trt_lane.scales import ScaleTable

# Frames whose head outputs are held in memory at once for the noise and the curves.
HEAD_FRAMES = 24


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What was measured.

    Attributes:
        model: the network's description.
        recipe: name of the recipe that made the table.
        frames: on which `outcome` was measured.
        head_frames, part_frames: how many of them for the heads, and for blocks and layers.
        whole_px: LDS of the whole quantised network on the heads' frames, in the pixels of the
            model's own frame, as all figures of heads, blocks and layers are.
        lanes: by form, FLOAT and FULL, in the frames' own pixels.
        outcome: of the same forms.
        heads: most distorting first.
        blocks: worst first.
        layers: worst first.
        unmeasured: number of quantised layers that were not measured one by one.
        macs: by layer.
    """

    model: LaneModel
    recipe: str
    frames: EvaluationFrames
    head_frames: int
    part_frames: int
    whole_px: float
    lanes: Mapping[str, list[LaneSet]]
    outcome: Mapping[str, Outcome]
    heads: tuple[HeadSensitivity, ...]
    blocks: tuple[PartSensitivity, ...]
    layers: tuple[PartSensitivity, ...]
    unmeasured: int
    macs: Mapping[str, int]


def measure(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    frames: EvaluationFrames,
    *,
    all_layers: bool = False,
    bar: Bar = NO_BAR,
) -> Sensitivity:
    """Measure heads, blocks and layers.

    Args:
        model: heads and decoder.
        graph_module: the folded float network.
        table: of the quantised network.
        frames: to measure on; heads and parts use some of them, spread evenly.
        all_layers: measure every layer one by one, whatever it takes.
        bar: progress.
    """
    variants = Variants(graph_module, table)
    quantised = set(table_layers(table))
    own = {
        head: tuple(path for path in layers if path in quantised)
        for head, layers in head_layers(graph_module).items()
    }
    heads, head_frames, whole_px = _heads(model, graph_module, table, variants, own, frames, bar)
    lanes = lanes_of_forms(model.decoder, variants, {}, frames, bar, "lanes")
    some = [
        Block(block.name, tuple(path for path in block.layers if path in quantised))
        for block in blocks(graph_module)
    ]
    some = [block for block in some if block.layers]
    forms = 2 * (len(some) + len(quantised))
    count = affordable_frames(graph_module, forms, len(frames))
    few = frames.first(count).inputs
    run = (model.decoder, graph_module, table, variants, few)
    worst_blocks = part_sensitivity(some, *run, bar=bar, what="blocks")
    if all_layers:
        chosen = [Block(path, (path,)) for path in table_layers(table)]
    else:
        in_heads = [path for layers in own.values() for path in layers]
        chosen = affordable_layers(worst_blocks, graph_module, in_heads, count)
    worst_layers = part_sensitivity(chosen, *run, bar=bar, what="layers")
    return Sensitivity(
        model,
        str(table.info.get("recipe", "?")),
        frames,
        head_frames,
        count,
        whole_px,
        lanes,
        outcomes(frames, lanes),
        tuple(sorted(heads, key=lambda h: (-h.distortion_px, h.name))),
        tuple(worst_blocks),
        tuple(worst_layers),
        len(quantised) - len(worst_layers),
        layer_macs(graph_module),
    )


def _heads(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    variants: Variants,
    own: Mapping[str, tuple[str, ...]],
    frames: EvaluationFrames,
    bar: Bar,
) -> tuple[list[HeadSensitivity], int, float]:
    """Every head measured, on how many frames, and the LDS of all of them together."""
    some = frames.first(HEAD_FRAMES)
    tables = {f"own/{h}": only_layers(table, graph_module, p) for h, p in own.items() if p}
    parts: dict[str, dict[str, list[Tensor]]] = {}
    for _, forms in variants.runs(tables, some.inputs):
        for form, outputs in forms.items():
            for head, value in outputs.items():
                parts.setdefault(form, {}).setdefault(head, []).append(value)
    whole = {f: {h: torch.cat(v) for h, v in outs.items()} for f, outs in parts.items()}
    found = [
        head_sensitivity(
            head,
            model.decoder,
            whole[FLOAT],
            whole[FULL],
            whole.get(f"own/{head.name}", whole[FLOAT]),
            own[head.name],
        )
        for head in bar(model.heads, len(model.heads), "heads")
    ]
    pair = (decode_all(model.decoder, whole[form]) for form in (FLOAT, FULL))
    return found, len(some), mean_lane_distortion_score(*pair)
