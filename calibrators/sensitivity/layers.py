"""Sensitivity of layers and blocks: alone in INT8, and alone in float."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from calibrators.network_parts import Block
from calibrators.selective_focus import Decoder, decode_all
from calibrators.sensitivity.evaluation import NO_BAR, Bar, with_bar
from calibrators.sensitivity.heads import relative_error
from calibrators.sensitivity.macs import layer_macs
from calibrators.sensitivity.mixed import only_layers, without_layers
from calibrators.sensitivity.variants import FLOAT, Variants
from trt_lane.metrics.lane_distortion import lane_distortion_score
from trt_lane.scales import ScaleTable

# Work of a report: forward passes of that many MACs in all, about a minute on one core.
WORK_MACS = 400e9
FEWEST_FRAMES, MOST_FRAMES = 4, 16


@dataclass(frozen=True)
class PartSensitivity:
    """What the quantisation of a layer or a block does to the lanes.

    Attributes:
        name: module path, or the block's name.
        layers: module paths of its weighted layers.
        macs: of those layers.
        head_errors: mean squared error over mean square of every head, this part alone quantised.
        distortion_px: LDS when this part alone is quantised.
        rest_distortion_px: LDS when everything but this part is quantised; None when not measured.
    """

    name: str
    layers: tuple[str, ...]
    macs: int
    head_errors: dict[str, float]
    distortion_px: float
    rest_distortion_px: float | None

    @property
    def worst_error(self) -> float:
        """The largest of the heads' errors: tells parts apart that bend no lane."""
        return max(self.head_errors.values(), default=0.0)


def part_sensitivity(
    parts: Sequence[Block],
    decoder: Decoder,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    variants: Variants,
    inputs: torch.Tensor,
    *,
    leave_one_out: bool = True,
    bar: Bar = NO_BAR,
    what: str = "layers",
) -> list[PartSensitivity]:
    """Every part measured, worst first.

    Args:
        parts: blocks, or layers as blocks of one.
        decoder: the model's.
        graph_module: the folded network.
        table: of the whole quantised network.
        variants: made of the two.
        inputs: network inputs float32 (F, 3, h, w).
        leave_one_out: whether to measure each part in float among quantised ones, too.
        bar: progress over frames.
        what: the bar's label.
    """
    tables = {f"alone/{p.name}": only_layers(table, graph_module, p.layers) for p in parts}
    if leave_one_out:
        for part in parts:
            tables[f"rest/{part.name}"] = without_layers(table, graph_module, part.layers)
    distortion = dict.fromkeys(tables, 0.0)
    errors: dict[str, dict[str, float]] = {name: {} for name in tables}
    for span, heads in with_bar(variants.runs(tables, inputs), len(inputs), bar, what):
        reference = decode_all(decoder, heads[FLOAT])
        for name in tables:
            lanes = decode_all(decoder, heads[name])
            distortion[name] += sum(map(lane_distortion_score, reference, lanes)) / len(inputs)
            weight = (span.stop - span.start) / len(inputs)
            for head, value in heads[name].items():
                error = weight * relative_error(value, heads[FLOAT][head])
                errors[name][head] = errors[name].get(head, 0.0) + error
    macs = layer_macs(graph_module)
    found = [
        PartSensitivity(
            part.name,
            part.layers,
            sum(macs[path] for path in part.layers),
            errors[f"alone/{part.name}"],
            distortion[f"alone/{part.name}"],
            distortion[f"rest/{part.name}"] if leave_one_out else None,
        )
        for part in parts
    ]
    return sorted(found, key=lambda p: (-p.distortion_px, -p.worst_error, p.name))


def affordable_frames(graph_module: fx.GraphModule, forms: int, have: int) -> int:
    """Frames on which so many forms can be run within WORK_MACS; the same on every machine."""
    per_frame = sum(layer_macs(graph_module).values()) * max(forms, 1) * 0.5
    wanted = int(WORK_MACS / max(per_frame, 1.0))
    return min(have, max(FEWEST_FRAMES, min(MOST_FRAMES, wanted)))


def affordable_layers(
    parts: Sequence[PartSensitivity],
    graph_module: fx.GraphModule,
    always: Iterable[str],
    have: int,
) -> list[Block]:
    """Layers to measure one by one: all where that is affordable, else those of the worst blocks.

    Args:
        parts: the blocks, worst first.
        graph_module: the folded network.
        always: layers that are measured in any case (the heads' own).
        have: number of frames.
    """
    per_form = sum(layer_macs(graph_module).values()) * 0.5 * min(have, FEWEST_FRAMES)
    limit = max(8, int(WORK_MACS / max(per_form, 1.0) / 2))
    chosen: dict[str, None] = {}
    for part in parts:
        if chosen and len(chosen) + len(part.layers) > limit:
            break
        chosen.update(dict.fromkeys(part.layers))
    known = {path for part in parts for path in part.layers}
    chosen.update({path: None for path in always if path in known})
    return [Block(path, (path,)) for path in chosen]
