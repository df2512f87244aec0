"""`python -m engines inspect`: which layers of an engine run in INT8, and why the others do not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

NAME = "inspect"
HELP = "show the layers of an engine, their precision and their share of the work"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="folder that `python -m engines build` wrote")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--all", action="store_true", help="layers without weights, too")
    parser.add_argument(
        "--require", type=float, metavar="SHARE", help="fail below this share of INT8 MACs"
    )


def run(args: argparse.Namespace) -> int:
    """Print the table; a share below the required one is a failed check."""
    from engines.build import LAYERS_NAME, read_layers
    from engines.inspect import coverage_line, format_table
    from engines.layer_table import coverage
    from trt_lane.errors import CheckFailedError, TrtLaneError

    if args.require is not None and not 0 <= args.require <= 1:
        raise TrtLaneError(f"--require is {args.require}; expected a share from 0 to 1")
    folder = args.artifact if args.artifact.is_dir() else args.artifact.parent
    table = read_layers(folder / LAYERS_NAME)
    found = coverage(table)
    if args.json:
        values = {
            "int8_macs": found.int8_macs,
            "total_macs": found.total_macs,
            "int8_share": found.share,
            "activation_macs": found.activation_macs,
            "not_int8": [{"layer": name, "reason": reason} for name, reason in found.not_int8],
            "layers": [record.to_dict() for record in table],
        }
        print(json.dumps(values, indent=2))
    else:
        print(format_table(table, everything=args.all))
        print(coverage_line(found))
    if args.require is not None and found.share < args.require:
        worst = "; ".join(f"{name}: {reason}" for name, reason in found.not_int8[:3])
        raise CheckFailedError(
            f"{found.share:.2%} of the MACs run in INT8, {args.require:.2%} are required ({worst})"
        )
    return 0
