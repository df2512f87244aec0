"""`python -m training MODEL...`: demo weights from the synthetic roads; stop and rerun any time."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from training.recipe import TrainingRecipe
from training.session import Places, train
from training.targets import targets_of
from training.validate import evaluate, total
from trt_lane.console import Parser
from trt_lane.errors import TrtLaneError
from trt_lane.metrics.culane import CulaneCounts
from trt_lane.model import LaneModel, get_model
from trt_lane.models._checkpoint import WEIGHTS_FOLDER, bundled_weights, load_checkpoint

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; a mistake is a TrtLaneError, a stop by the user KeyboardInterrupt."""
    _run(_parser().parse_args(arguments))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training", description=__doc__)
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="models of `trt-lane models`, trained one after the other; finished ones are kept",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's)")
    length.add_argument("--minutes", type=float, help="learn for this long; rendering comes before")
    parser.add_argument("--frames", type=int, help="frames to learn from (default: the recipe's)")
    parser.add_argument("--weights", type=Path, help="weights to begin with, or to evaluate")
    parser.add_argument("--out", type=Path, default=ROOT / "weights", help="folder for the weights")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "training", help="frames and checkpoints"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="rendering processes")
    parser.add_argument("--restart", action="store_true", help="forget an interrupted training")
    parser.add_argument(
        "--evaluate",
        type=int,
        nargs="?",
        const=500,
        metavar="N",
        help="do not train: F1 of the weights on N unseen frames (default 500)",
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    """Train or evaluate the models in turn; KeyboardInterrupt when the user stopped it."""
    # All names and recipes first: a mistake in the last must not show after hours of training.
    models = [get_model(name) for name in options.models]
    if options.weights is not None and len(models) > 1:
        raise TrtLaneError(
            f"--weights {options.weights} is for one model, but {len(models)} are given; "
            "run them one by one"
        )
    if options.evaluate is not None:
        for model in models:
            weights = options.weights or bundled_weights(model, options.out)
            _evaluate(model, weights, options.evaluate)
        return
    recipes = [_recipe(targets_of(model).RECIPE, options) for model in models]
    start = None if options.weights is None else load_checkpoint(models[0], options.weights)
    places = Places(options.work, options.out)
    for model, recipe in zip(models, recipes, strict=True):
        trunk = None if start is not None else _trunk(recipe, options.out)
        path = train(model, recipe, places, options.workers, start, trunk, options.restart)
        if path is None:
            raise KeyboardInterrupt
        print(f"weights: {path}\ncurve:   {options.work / model.name / 'curve.png'}")


def _recipe(recipe: TrainingRecipe, options: argparse.Namespace) -> TrainingRecipe:
    """The representation's recipe with what the command line changes."""
    given = {name: getattr(options, name) for name in ("steps", "minutes", "frames")}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.steps is not None:
        changes["minutes"] = None  # else the recipe's own would decide
    try:
        return replace(recipe, **changes)
    except ValueError as error:
        raise TrtLaneError(f"cannot train so: {error}") from None


def _trunk(recipe: TrainingRecipe, out: Path) -> dict[str, Tensor] | None:
    """Weights that the recipe borrows its first layers from: newly trained or bundled ones."""
    if not recipe.trunk:
        return None
    model = get_model(recipe.trunk)
    listing = out / "weights.toml"
    fresh = listing.exists() and f"[{model.name}]" in listing.read_text(encoding="utf-8")
    return load_checkpoint(model, bundled_weights(model, out if fresh else WEIGHTS_FOLDER))


def _evaluate(model: LaneModel, weights: Path, count: int) -> None:
    """Print F1 per category and over all of the first `count` frames of the test split."""
    network = model.build()
    network.load_state_dict(load_checkpoint(model, weights))
    with tqdm(total=count, unit="frame", dynamic_ncols=True, leave=False) as bar:
        counts = evaluate(model, network, range(count), after_frame=bar.update)
    for category, found in sorted(counts.items()):
        _print_counts(category, found)
    _print_counts(f"{model.name}, {count} frames", total(counts))


def _print_counts(name: str, counts: CulaneCounts) -> None:
    print(
        f"{name:<12} F1 {counts.f1:.4f}  precision {counts.precision:.4f}  "
        f"recall {counts.recall:.4f}  tp {counts.tp} fp {counts.fp} fn {counts.fn}"
    )
