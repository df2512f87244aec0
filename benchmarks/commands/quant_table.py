"""`python -m benchmarks quant-table`: every method on every model, resumable cell by cell."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "quant-table"
HELP = (
    "accuracy, seconds and peak memory of every method on every model; goes on where it was cut off"
)
RESULTS = Path(__file__).resolve().parents[1] / "results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument(
        "models", help="'NAME[=WEIGHTS][@DATA[@CALIBRATION_DATA]] …'; default bundled and synthetic"
    )
    parser.add_argument(
        "recipes",
        help="'NAME[:STEPS_FACTOR] …' of calibrators/recipes, or files (benchmarks/ablations); "
        "may be empty with --peers",
    )
    parser.add_argument(
        "seeds", nargs="?", default="0", help="'0 1 2': for methods that learn (default 0)"
    )
    parser.add_argument(
        "--name", default="quant", help="writes OUT/NAME.json and OUT/NAME.md (default quant)"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder (default benchmarks/results)"
    )
    add_conditions(parser)
    parser.add_argument(
        "--peers",
        nargs="?",
        const="all",
        help="also other projects' quantisers: all, or names with commas, as 'modelopt max,…' "
        "(default: none)",
    )


def add_conditions(parser: argparse.ArgumentParser) -> None:
    """Options that all cells share."""
    from benchmarks.machine import usable_cores

    parser.add_argument(
        "--steps-factor",
        type=float,
        default=1.0,
        help="on the published steps of layer-wise and block-wise recipes without their own factor "
        "(default 1)",
    )
    parser.add_argument(
        "--calibration-frames", type=int, default=64, help="for every method, at most (default 64)"
    )
    parser.add_argument(
        "--score-frames", type=int, default=100, help="to score on, at most (default 100)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=usable_cores(),
        help="of a cell's process (default: all cores, here %(default)s)",
    )
    parser.add_argument(
        "--cache-gb", type=float, default=4.0, help="memory for activations, in GB (default 4)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/quant_table"),
        help="folder of cells and logs, kept (default build/quant_table)",
    )
    parser.add_argument(
        "--any-code", action="store_true", help="keep finished cells made by other code, marked"
    )


def conditions_of(args: argparse.Namespace) -> object:
    """The shared options as a value."""
    from benchmarks.cells import Conditions

    return Conditions(
        args.calibration_frames,
        args.score_frames,
        args.threads,
        args.cache_gb,
        args.work,
        args.any_code,
    )


def run(args: argparse.Namespace) -> int:
    """Run, write, print; exit status 1 when a cell failed."""
    from benchmarks.cell_specs import parse_model, parse_recipe, parse_seeds
    from benchmarks.cells import check_methods
    from benchmarks.peers import PEERS, get_peer
    from benchmarks.quant_table import quant_table
    from trt_lane.errors import TrtLaneError

    recipes = [parse_recipe(text, args.steps_factor) for text in args.recipes.split()]
    names = [] if args.peers is None else args.peers.split(",")
    peers = list(PEERS.values()) if names == ["all"] else [get_peer(n.strip()) for n in names]
    seeds, conditions = parse_seeds(args.seeds), conditions_of(args)
    _check("recipes or peers", [*recipes, *peers])
    check_methods([*recipes, *peers])
    models = [parse_model(text) for text in args.models.split()]
    _check("models", models)
    if len({m.name for m in models}) < len(models):
        raise TrtLaneError(
            "a model is named twice; name each once, and make two tables for other weights or data"
        )
    out = args.out / args.name
    table = quant_table(
        models, [*recipes, *peers], seeds, conditions, out, lambda t: print(t, flush=True)
    )
    print(out.with_name(f"{out.name}.md").read_text(encoding="utf-8"))
    return 1 if any("failed" in r or "missing_seeds" in r for r in table["rows"]) else 0


def _check(what: str, items: list) -> None:
    from trt_lane.errors import TrtLaneError

    if not items:
        raise TrtLaneError(f"no {what} given; expected at least one")
