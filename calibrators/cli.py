"""`python -m calibrators MODEL --recipe NAME --out scales.npz`: scales from unlabelled frames."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from calibrators.budget.command import add_budget_options, check_budget, planned
from calibrators.frames import calibration_frames
from calibrators.network import folded_model
from calibrators.quantise import quantise
from calibrators.recipe_files import list_recipes, load_recipe
from calibrators.reference import save_reference
from calibrators.score import cell, made_before, score, with_costs
from calibrators.shorten import RULE, shortened
from calibrators.stopwatch import Stopwatch
from trt_lane.console import Parser
from trt_lane.datasets import open_dataset
from trt_lane.files import check_writable, write_json
from trt_lane.progress import progress
from trt_lane.scales import ScaleTable


def main(arguments: list[str] | None = None) -> int:
    """Parse, calibrate, write."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if bool(options.score) != bool(options.score_out):
        parser.error("--score and --score-out go together")
    if options.score_frames < 1:
        parser.error(f"--score-frames is {options.score_frames}; expected 1 or more")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        parser.error(f"--seed is {options.seed}; expected 0 to 2^63 - 1")
    if not options.cache_gb >= 0:
        parser.error(f"--cache-gb is {options.cache_gb}; expected 0 or more")
    recipe = shortened(load_recipe(options.recipe), options.steps_factor)
    if options.seed is not None:
        recipe = dataclasses.replace(recipe, seed=options.seed)
    if options.budget is not None and options.reuse:
        parser.error("--reuse keeps a table with everything quantised; --budget writes another")
    # Mistakes show before hours of learning, not after.
    for path in filter(None, (options.out, options.reference, options.score_out)):
        check_writable(path)
    if options.score:
        open_dataset(options.score)
    check_budget(options)
    wanted = recipe.frames if options.frames is None else options.frames
    if wanted < 1:
        parser.error(f"--frames is {wanted}; expected 1 or more")
    model, graph_module = folded_model(options.model, options.weights)
    frames = calibration_frames(options.data, model.image, wanted)
    table = made_before(options.out, recipe, graph_module, frames) if options.reuse else None
    resume = options.out.with_suffix(".resume")

    def learn(in_float: Sequence[str] = ()) -> ScaleTable:
        return quantise(
            model,
            graph_module,
            frames,
            recipe,
            cache_gb=options.cache_gb,
            resume=resume,
            progress=_bar,
            bar=progress,
            in_float=in_float,
        )

    if table is None:
        with Stopwatch(options.out.with_suffix(".elapsed"), resume.is_file()) as watch:
            table = learn()
            table = with_costs(table, watch)
            table.save(options.out)
            # Only now: a full disk or a kill before this line must not cost hours of learning. What
            # lies there beside a recipe that learns nothing is another's.
            if recipe.reconstruction is not None:
                resume.unlink(missing_ok=True)
    for warning in table.info.get("warnings", ()):
        sys.stderr.write(f"calibrators: warning: {warning}\n")
    words = ""
    if options.budget is not None:
        again = None if recipe.reconstruction is None else learn
        table, words = planned(model, graph_module, table, options, again)
        words += "\n"
        table.save(options.out)
        if again is not None:
            resume.unlink(missing_ok=True)
    if options.reference:
        save_reference(options.reference, graph_module, table, frames)
    if options.score:
        results = score(
            model, graph_module, table, options.score, options.score_frames,
            lambda indices: progress(indices, len(indices), "score"),
        )  # fmt: skip
        write_json(options.score_out, cell(recipe, graph_module, table, results))
    sys.stdout.write(
        f"calibrated {model.name} with {recipe.name} on {len(frames)} frames of {options.data}: "
        f"{len(table.weights)} layers, {len(table.activations)} activation scales\n{words}"
    )
    return 0


def _bar(items: Sequence, what: str) -> Iterator:
    return progress(items, len(items), what)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m calibrators", description=__doc__)
    parser.add_argument("model", help="a name from `trt-lane models`, e.g. ufld or lstr.tusimple")
    parser.add_argument(
        "--recipe",
        default="int8_selective_focus",
        help=f"{', '.join(list_recipes())}, or a TOML file",
    )
    parser.add_argument("--weights", type=Path, help="checkpoint; default: the bundled weights")
    parser.add_argument(
        "--data",
        default="synthetic:calibration",
        help="unlabelled frames: synthetic:calibration, culane:DIR, tusimple:DIR, curvelanes:DIR, "
        "llamas:DIR, images:DIR, video:FILE (labels are never read)",
    )
    parser.add_argument("--frames", type=int, help="number of frames; default: the recipe's")
    parser.add_argument("--seed", type=int, help="of every random draw; default: the recipe's")
    parser.add_argument(
        "--steps-factor",
        type=float,
        default=1.0,
        help=f"for recipes that learn: {RULE} (default 1)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the scale table to write (.npz)")
    parser.add_argument(
        "--reference", type=Path, help="also write the fake-quantised heads of some frames (.npz)"
    )
    parser.add_argument(
        "--cache-gb",
        type=float,
        default=4.0,
        help="memory for activations while reconstructing; beyond it they are computed again",
    )
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="take --out as it is when it is of this recipe, these weights and frames",
    )
    add_budget_options(parser)
    parser.add_argument("--score", metavar="SPEC", help="also score on frames of this data set")
    parser.add_argument("--score-frames", type=int, default=100, help="at most so many")
    parser.add_argument("--score-out", type=Path, help="results per frame, with costs (.json)")
    return parser
