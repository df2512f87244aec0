"""`python -m calibrators.budget MODEL --scales all.npz --budget 0.3 --out scales.npz`."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import fx

from calibrators.budget.command import add_budget_options, check_budget, planned
from calibrators.budget.relearn import Learn
from calibrators.frames import calibration_frames
from calibrators.network import folded_model
from calibrators.quantise import quantise
from calibrators.recipe import QuantRecipe
from calibrators.recipe_files import load_recipe
from calibrators.reference import REFERENCE_FRAMES, save_reference
from calibrators.sensitivity.mixed import check_weights
from trt_lane.console import Parser
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError
from trt_lane.files import check_writable
from trt_lane.model import LaneModel
from trt_lane.progress import progress
from trt_lane.scales import ScaleTable


def main(arguments: list[str] | None = None) -> int:
    """Plan what stays in float, write that table, say what and why."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.recipe is None) != (options.data is None):
        parser.error("--recipe and --data go together")
    for path in filter(None, (options.out, options.reference)):
        check_writable(path)  # before minutes of measuring
    check_budget(options)
    recipe = None if options.recipe is None else load_recipe(options.recipe)
    if options.data is not None:
        open_dataset(options.data)
    table = ScaleTable.load(options.scales)
    model, graph_module = folded_model(options.model, options.weights)
    check_weights(table, graph_module)
    words = "no budget: everything stays in INT8"
    resume = options.out.with_suffix(".resume")
    if options.budget is not None:
        learn = None
        if recipe is not None and recipe.reconstruction is not None:
            learn = _learning(model, graph_module, table, recipe, options.data, resume)
        table, words = planned(model, graph_module, table, options, learn)
    if options.reference:
        frames = calibration_frames(options.budget_data, model.image, REFERENCE_FRAMES)
        save_reference(options.reference, graph_module, table, frames)
    table.save(options.out)  # last: where it lies, make takes all of this for done
    resume.unlink(missing_ok=True)
    sys.stdout.write(f"{words}\n")
    return 0


def _learning(
    model: LaneModel,
    graph_module: fx.GraphModule,
    table: ScaleTable,
    recipe: QuantRecipe,
    data: str,
    resume: Path,
) -> Learn:
    """Makes the table anew with layers in float, by the same recipe on the same frames.

    Raises:
        TrtLaneError: the table is of another recipe or other frames.
    """
    frames = calibration_frames(data, model.image, int(table.info["frames"]))
    made = {"recipe": recipe.digest(), "data": hashlib.sha256(frames.numpy().tobytes()).hexdigest()}
    for what, digest in made.items():
        if table.digests.get(what) != digest:
            told = recipe.name if what == "recipe" else data
            raise TrtLaneError(
                f"the scale table is not of --{what} {told}; give what it was made with, or leave "
                "out --recipe and --data: then nothing is learned again"
            )

    def learn(in_float: Sequence[str]) -> ScaleTable:
        return quantise(
            model,
            graph_module,
            frames,
            recipe,
            resume=resume,
            progress=lambda items, what: progress(items, len(items), what),
            bar=progress,
            in_float=in_float,
        )

    return learn


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m calibrators.budget",
        description="Keep in float what an accuracy budget asks for, with the fewest MACs.",
    )
    parser.add_argument("model", help="a name from `trt-lane models`, e.g. ufld or lstr.tusimple")
    parser.add_argument("--weights", type=Path, help="checkpoint; default: the bundled weights")
    parser.add_argument(
        "--scales", type=Path, required=True, help="table with everything in INT8, from calibrators"
    )
    parser.add_argument(
        "--recipe",
        help="what --scales was made by: where it learns and layers stay in float, it learns again "
        "with those in float",
    )
    parser.add_argument("--data", help="unlabelled frames that --scales was made on")
    add_budget_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="the scale table to write (.npz)")
    parser.add_argument(
        "--reference", type=Path, help="also write the fake-quantised heads of some frames (.npz)"
    )
    return parser
