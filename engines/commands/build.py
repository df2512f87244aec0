"""`python -m engines build`: an ONNX to an engine with its sidecar and its layer table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

NAME = "build"
HELP = "build an engine for a target, with its sidecar and layer table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    from engines.target import list_targets

    parser.add_argument("onnx", type=Path, help="typed ONNX from `python -m engines export`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    parser.add_argument(
        "--target", help=f"{', '.join(list_targets())} (default: the best that runs here)"
    )
    parser.add_argument(
        "--scales", type=Path, help="scales.npz: the CPU graph takes the range of sums from it"
    )
    parser.add_argument("--plugins", type=Path, help="library of the plugins in the graph")
    parser.add_argument("--timing-cache", type=Path, help="file that makes the next build faster")


def run(args: argparse.Namespace) -> int:
    """Build, package, say what came out."""
    import onnx

    from engines.build import build
    from engines.card import check_outputs, read_card
    from engines.inspect import coverage_line
    from engines.layer_table import coverage
    from engines.package import package
    from engines.target import default_target, load_target
    from trt_lane.errors import TrtLaneError
    from trt_lane.progress import PhaseBar
    from trt_lane.scales import ScaleTable

    target = load_target(args.target or default_target())
    maxima = ScaleTable.load(args.scales).maxima if args.scales else None
    with PhaseBar(sys.stderr) as bar:
        result = build(
            args.onnx,
            target,
            args.out,
            maxima=maxima,
            plugin_library=args.plugins,
            timing_cache=args.timing_cache,
            progress=bar,
        )
    print(
        f"{result.engine}  {result.engine.stat().st_size / 1e6:.1f} MB  {target.builder.value} "
        f"{result.builder_version}  {result.seconds:.1f} s"
    )
    print(coverage_line(coverage(result.table)))
    model = onnx.load(args.onnx, load_external_data=False)
    card = read_card(model)
    if card is None:
        raise TrtLaneError(
            f"the engine is built, but {args.onnx} does not say which model it is, so it has no "
            "sidecar; make the ONNX with: python -m engines export"
        )
    check_outputs(model, card)
    artifact = package(result, args.onnx, card, target, args.plugins)
    print(f"{artifact.folder / 'artifact.json'}  {artifact.model} for {target.name}")
    return 0
