"""`python -m benchmarks steps-curve`: score against optimiser steps, on one model."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.commands.quant_table import add_conditions, conditions_of

NAME = "steps-curve"
HELP = "score of learning methods against their steps and time on one model; goes on like the table"
RECIPES = "w4a4_qdrop w4a4_selective_focus"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("model", help="NAME[=WEIGHTS][@DATA[@CALIBRATION_DATA]]")
    parser.add_argument("recipes", nargs="?", default=RECIPES, help=f"default '{RECIPES}'")
    parser.add_argument("seeds", nargs="?", default="0", help="'0 1 2' (default 0)")
    parser.add_argument(
        "--factors",
        default="0.25 0.5 1 2",
        help="on the steps of each recipe, which --steps-factor and NAME:FACTOR have set (default "
        "'0.25 0.5 1 2')",
    )
    parser.add_argument("--name", help="of OUT/NAME.json, .md and .svg (default steps_curve-MODEL)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/quant_table"),
        help="folder (default build/quant_table)",
    )
    add_conditions(parser)


def run(args: argparse.Namespace) -> int:
    """Run, write, say where; exit status 1 when a point failed."""
    from benchmarks.cell_specs import parse_model, parse_recipe, parse_seeds
    from benchmarks.steps_curve import steps_curve
    from trt_lane.errors import TrtLaneError

    recipes = [parse_recipe(text, args.steps_factor) for text in args.recipes.split()]
    still = [recipe.name for recipe in recipes if recipe.unit is None]
    if still or not recipes:
        raise TrtLaneError(
            f"{', '.join(still) or 'no recipe'}: learns nothing; expected recipes with steps, "
            f"as in '{RECIPES}'"
        )
    try:
        factors = [float(word) for word in args.factors.split()]
    except ValueError:
        factors = []
    if not factors or min(factors) <= 0 or len(set(factors)) < len(factors):
        raise TrtLaneError(
            f"--factors is {args.factors!r}; expected different numbers above 0, as in '0.5 1 2'"
        )
    model = parse_model(args.model)
    out = args.out / (args.name or f"steps_curve-{model.name}")
    points = [recipe.times(factor) for recipe in recipes for factor in factors]
    curves = steps_curve(
        model, points, parse_seeds(args.seeds), conditions_of(args), out,
        lambda text: print(text, flush=True),
    )["curves"]  # fmt: skip
    print(f"{out}.json {out}.md {out}.svg")
    return 1 if any("failed" in p for points in curves.values() for p in points) else 0
