"""`python -m calibrators.sensitivity MODEL --out DIR`: why did INT8 lose my lanes?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from calibrators.frames import calibration_frames
from calibrators.network import folded_model
from calibrators.quantise import quantise
from calibrators.recipe_files import list_recipes, load_recipe
from calibrators.sensitivity.evaluation import evaluation_frames
from calibrators.sensitivity.measure import measure
from calibrators.sensitivity.mixed import check_weights
from calibrators.sensitivity.picture import draw
from calibrators.sensitivity.report import text, to_dict
from trt_lane.console import Parser
from trt_lane.errors import TrtLaneError
from trt_lane.files import check_writable, write_bytes, write_json
from trt_lane.progress import progress
from trt_lane.scales import ScaleTable

DEFAULT_DATA = "synthetic:calibration:seed=1"
NUMBERS, WORDS, PICTURE = "report.json", "report.txt", "sensitivity.png"


def main(arguments: list[str] | None = None) -> int:
    """Calibrate where no table is given, measure, write report.json, report.txt and a picture."""
    options = _parser().parse_args(arguments)
    if options.frames < 1:
        raise TrtLaneError(f"--frames is {options.frames}; expected 1 or more")
    for name in (NUMBERS, WORDS, PICTURE):
        check_writable(options.out / name)  # before minutes of measuring
    model, graph_module = folded_model(options.model, options.weights)
    if options.scales:
        table = ScaleTable.load(options.scales)
        check_weights(table, graph_module)
    else:
        recipe = load_recipe(options.recipe)
        calibration_data = options.calibration_data or options.data
        table = quantise(
            model,
            graph_module,
            calibration_frames(calibration_data, model.image, recipe.frames),
            recipe,
            progress=lambda items, what: progress(items, len(items), what),
            bar=progress,
        )
        for warning in table.info.get("warnings", ()):
            sys.stderr.write(f"calibrators.sensitivity: warning: {warning}\n")
    frames = evaluation_frames(options.data, model.image, options.frames, progress)
    found = measure(model, graph_module, table, frames, all_layers=options.all_layers, bar=progress)
    report = text(found)
    write_json(options.out / NUMBERS, to_dict(found))
    write_bytes(options.out / WORDS, f"{report}\n".encode())
    write_bytes(options.out / PICTURE, draw(found))
    sys.stdout.write(f"{report}\n\npicture  {options.out / PICTURE}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m calibrators.sensitivity", description=__doc__)
    parser.add_argument("model", help="a name from `trt-lane models`, e.g. ufld or lstr.tusimple")
    parser.add_argument("--weights", type=Path, help="checkpoint; default: the bundled weights")
    parser.add_argument("--scales", type=Path, help="a table to look into, from calibrators")
    parser.add_argument(
        "--recipe",
        default="int8_mse",
        help=f"calibrates when there is no --scales: {', '.join(list_recipes())}, or a TOML file",
    )
    parser.add_argument(
        "--data",
        default=DEFAULT_DATA,
        help="frames to measure on: synthetic:…, culane:DIR, tusimple:DIR, curvelanes:DIR, "
        "llamas:DIR, images:DIR, video:FILE",
    )
    parser.add_argument("--calibration-data", help="frames to calibrate on; default: --data")
    parser.add_argument("--frames", type=int, default=48, help="frames to measure on (default 48)")
    parser.add_argument(
        "--all-layers",
        action="store_true",
        help="measure every layer; without it big networks get those of the worst blocks only",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    return parser
