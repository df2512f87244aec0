"""`python -m calibrators MODEL --recipe NAME --out scales.npz`: scales from unlabelled frames."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from calibrators.fake_quant import quantised_network
from calibrators.frames import calibration_frames
from calibrators.quantise import quantise
from calibrators.recipe import list_recipes, load_recipe
from trt_lane.console import guarded
from trt_lane.files import atomic_write
from trt_lane.model import get_model
from trt_lane.models._checkpoint import bundled_weights, load_weights
from trt_lane.models._folded import fold
from trt_lane.progress import progress

REFERENCE_FRAMES = 4


def main(arguments: list[str] | None = None) -> int:
    """Parse, calibrate, write."""
    options = _parser().parse_args(arguments)
    recipe = load_recipe(options.recipe)
    model = get_model(options.model)
    network = model.build()
    load_weights(model, network, options.weights or bundled_weights(model))
    frames = calibration_frames(options.data, model.image, options.frames or recipe.frames)
    graph_module = fold(network, model.image.input_hw)
    table = quantise(
        model,
        graph_module,
        frames,
        recipe,
        cache_gb=options.cache_gb,
        resume=options.out.with_suffix(".resume"),
        progress=_bar,
        bar=progress,
    )
    table.save(options.out)
    for warning in table.info.get("warnings", ()):
        sys.stderr.write(f"calibrators: warning: {warning}\n")
    if options.reference:
        _save_reference(options.reference, graph_module, table, frames[:REFERENCE_FRAMES])
    sys.stdout.write(
        f"calibrated {model.name} with {recipe.name} on {len(frames)} frames of {options.data}: "
        f"{len(table.weights)} layers, {len(table.activations)} activation scales\n"
    )
    return 0


def _bar(items: Sequence, what: str) -> Iterator:
    return progress(items, len(items), what)


def _save_reference(path: Path, graph_module: object, table: object, frames: torch.Tensor) -> None:
    """Heads of the fake-quantised network on some frames, for engines verify."""
    with torch.no_grad():
        heads = quantised_network(graph_module, table)(frames)
        floats = graph_module(frames)
    arrays = {f"quantised/{k}": v.numpy() for k, v in heads.items()}
    arrays |= {f"float/{k}": v.numpy() for k, v in floats.items()}
    with atomic_write(path) as file:
        np.savez_compressed(file, image=frames.numpy(), **arrays)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m calibrators", description=__doc__)
    parser.add_argument("model", help="a name from `trt-lane models`, e.g. ufld or lstr.tusimple")
    parser.add_argument(
        "--recipe", default="int8_mse", help=f"{', '.join(list_recipes())}, or a TOML file"
    )
    parser.add_argument("--weights", type=Path, help="checkpoint; default: the bundled weights")
    parser.add_argument(
        "--data",
        default="synthetic:calibration",
        help="unlabelled frames: synthetic:calibration, culane:DIR, tusimple:DIR, images:DIR, "
        "video:FILE (labels are never read)",
    )
    parser.add_argument("--frames", type=int, help="number of frames; default: the recipe's")
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
    return parser


if __name__ == "__main__":
    sys.exit(guarded("calibrators", main))
