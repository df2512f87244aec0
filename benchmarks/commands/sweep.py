"""`python -m benchmarks sweep`: models x recipes x seeds x targets on data sets, in shards."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "sweep"
HELP = (
    "make and score many engines on whole data sets, in processes or on Ray; goes on where it was"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument(
        "models",
        help="'NAME[=WEIGHTS][@DATA[@CALIBRATION_DATA]] …'; without them the bundled weights and "
        "synthetic frames",
    )
    parser.add_argument("recipes", help="'NAME[:STEPS_FACTOR] …' of calibrators/recipes")
    parser.add_argument(
        "seeds", nargs="?", default="0", help="'0 1 2': for methods that learn (default 0)"
    )
    parser.add_argument(
        "targets", nargs="?", default="cpu", help="'cpu rtx …' of engines/targets (default cpu)"
    )
    parser.add_argument("--shard", type=int, default=200, help="frames of a task (default 200)")
    parser.add_argument(
        "--frames", type=int, help="the first so many of each data set (default: all)"
    )
    parser.add_argument(
        "--calibration-frames", type=int, default=64, help="at most so many (default 64)"
    )
    parser.add_argument("--jobs", type=int, help="processes here (default: one per core)")
    parser.add_argument("--ray", help="cluster's address instead: auto, ray://HOST:PORT, local:N")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/sweep"),
        help="folder of engines and scored shards, kept (default build/sweep)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/sweep/sweep"),
        help="writes OUT.json, OUT.md: F1 or accuracy, intervals (default build/sweep/sweep)",
    )


def run(args: argparse.Namespace) -> int:
    """Run, write, print; exit status 1 when a cell failed."""
    from contextlib import ExitStack

    from benchmarks.cell_specs import parse_model, parse_recipe, parse_seeds
    from benchmarks.machine import usable_cores
    from benchmarks.sweep.driver import sweep
    from benchmarks.sweep.merged import markdown
    from benchmarks.sweep.plan import plan_cells, plan_shards
    from benchmarks.sweep.pools import LocalPool, RayPool
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import check_writable, write_bytes, write_json

    if args.ray and args.jobs:
        raise TrtLaneError("--jobs is of this machine, --ray of a cluster; give one of them")
    out = args.out.with_name(f"{args.out.name}.json")
    for path in (out, args.work / "engine.zip"):
        check_writable(path)  # before hours of work
    models = [parse_model(text) for text in args.models.split()]
    recipes = [parse_recipe(text) for text in args.recipes.split()]
    if not models or len({m.name for m in models}) < len(models):
        raise TrtLaneError("models: expected one or more, each once")
    cells = plan_cells(
        models, recipes, parse_seeds(args.seeds), args.targets.split(), args.calibration_frames
    )
    shards = {m.name: plan_shards(m.data, args.shard, args.frames) for m in models}
    with ExitStack() as stack:
        if args.ray:
            pool = stack.enter_context(RayPool(args.ray))
        else:
            pool = LocalPool(args.jobs or usable_cores())
        report = sweep(cells, shards, pool, args.work, lambda text: print(text, flush=True))
    write_json(out, report)
    table = markdown(report)
    write_bytes(args.out.with_name(f"{args.out.name}.md"), table.encode())
    print(table)
    return int(any("failed" in row for row in report["rows"]))
