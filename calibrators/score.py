"""Scores a quantised network beside its float form: one cell of the quantisation table."""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from calibrators.fake_quant import quantised_network
from calibrators.recipe import QuantRecipe, ReconstructionRecipe, UnitKind
from calibrators.stopwatch import Stopwatch
from calibrators.units import block_units, layer_units
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import Network
from trt_lane.frame_results import FLOAT, frame_results, spread_indices
from trt_lane.model import LaneModel
from trt_lane.scales import ScaleTable

SCHEMA = 1
QUANTISED = "quantised"


def score(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    spec: str,
    frames: int,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Results of both forms on frames of a data set, as frame_results gives them.

    Args:
        model: geometry and decoder.
        graph_module: the folded float network.
        table: its quantisation.
        spec: data set, as `open_dataset` takes it.
        frames: at most so many, spread evenly.
        progress: wraps the frames with a bar.
    """
    dataset = open_dataset(spec)
    networks = {
        FLOAT: as_network(graph_module),
        QUANTISED: as_network(quantised_network(graph_module, table)),
    }
    indices = spread_indices(len(dataset), frames)
    return frame_results(networks, model.image, model.decoder, dataset, progress(indices))


def cell(
    recipe: QuantRecipe,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    results: dict[str, Any],
) -> dict[str, Any]:
    """What the quantisation table keeps of one run, `table.info` completed by `with_costs`."""
    return {
        "schema": SCHEMA,
        "method": recipe.name,
        "bits": [recipe.weights.bits, recipe.activations.bits],
        "simulated": not recipe.deployable,
        "seed": recipe.seed,
        "calibration_frames": table.info["frames"],
        "learning": _learning(recipe.reconstruction, graph_module),
        "seconds": table.info["seconds"],
        "resumed": table.info["resumed"],
        "peak_memory_bytes": table.info["peak_memory_bytes"],
        "threads": torch.get_num_threads(),
        "results": results,
        "warnings": list(table.info.get("warnings", ())),
        "digests": {**table.digests, "scales": table.digest()},
    }


def with_costs(table: ScaleTable, watch: Stopwatch) -> ScaleTable:
    """The table with what making it took: wall time and the process's peak memory so far."""
    costs = {
        "seconds": round(watch.seconds, 3),
        "resumed": watch.resumed,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    return dataclasses.replace(table, info={**table.info, **costs})


def made_before(
    path: Path, recipe: QuantRecipe, graph_module: fx.GraphModule, frames: Tensor
) -> ScaleTable | None:
    """The table at `path` if it was made with costs from this recipe, weights and frames."""
    if not path.is_file():
        return None
    try:
        table = ScaleTable.load(path)
    except TrtLaneError:
        return None
    wanted = {
        "recipe": recipe.digest(),
        "weights": graph_module.meta["weights"],
        "data": hashlib.sha256(frames.numpy().tobytes()).hexdigest(),
    }
    return table if table.digests == wanted and "peak_memory_bytes" in table.info else None


def as_network(module: torch.nn.Module) -> Network:
    """A torch network as a function of numpy arrays."""

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: head.numpy() for name, head in module(torch.from_numpy(image)).items()}

    return run


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _learning(
    recipe: ReconstructionRecipe | None, graph_module: fx.GraphModule
) -> dict[str, Any] | None:
    if recipe is None:
        return None
    units = {
        UnitKind.LAYER: lambda: len(layer_units(graph_module)),
        UnitKind.BLOCK: lambda: len(block_units(graph_module)),
        UnitKind.NETWORK: lambda: 1,
    }
    return {
        "unit": recipe.unit.value,
        "units": units[recipe.unit](),
        "steps": recipe.steps,
        "steps_after": recipe.steps_after if recipe.order.value == "rounding_first" else 0,
        "block_steps": recipe.block_steps,
        "batch": recipe.batch,
        "lr_rounding": recipe.lr_rounding,
        "lr_steps": recipe.lr_steps,
    }
