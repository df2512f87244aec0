"""`python -m calibrators.budget MODEL --scales all.npz --budget 0.3 --out scales.npz`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from calibrators.budget.command import add_budget_options, check_budget, planned
from calibrators.frames import calibration_frames
from calibrators.network import folded_model
from calibrators.reference import REFERENCE_FRAMES, save_reference
from calibrators.sensitivity.mixed import check_weights
from trt_lane.console import Parser
from trt_lane.files import check_writable
from trt_lane.scales import ScaleTable


def main(arguments: list[str] | None = None) -> int:
    """Plan what stays in float, write that table, say what and why."""
    options = _parser().parse_args(arguments)
    for path in filter(None, (options.out, options.reference)):
        check_writable(path)  # before minutes of measuring
    check_budget(options)
    table = ScaleTable.load(options.scales)
    model, graph_module = folded_model(options.model, options.weights)
    check_weights(table, graph_module)
    words = "no budget: everything stays in INT8"
    if options.budget is not None:
        table, words = planned(model, graph_module, table, options)
    if options.reference:
        frames = calibration_frames(options.budget_data, model.image, REFERENCE_FRAMES)
        save_reference(options.reference, graph_module, table, frames)
    table.save(options.out)  # last: where it lies, make takes all of this for done
    sys.stdout.write(f"{words}\n")
    return 0


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
    add_budget_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="the scale table to write (.npz)")
    parser.add_argument(
        "--reference", type=Path, help="also write the fake-quantised heads of some frames (.npz)"
    )
    return parser
