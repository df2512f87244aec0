"""`python -m engines export`: a network, with or without scales, to a typed ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "export"
HELP = "write the ONNX of a network: explicit Q/DQ with --scales, float without"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("model", help="a name from `trt-lane models`")
    parser.add_argument("--weights", type=Path, help="checkpoint; default: the bundled weights")
    parser.add_argument("--scales", type=Path, help="scales.npz from `python -m calibrators`")
    parser.add_argument("--target", help="types for this target: FP16 on GPUs, FP32 on cpu")
    parser.add_argument("--batch", type=int, default=1, help="frames per run, e.g. one per camera")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX to write")


def run(args: argparse.Namespace) -> int:
    """Export."""
    from engines.export import export
    from engines.target import load_target
    from trt_lane.errors import TrtLaneError
    from trt_lane.model import get_model
    from trt_lane.models._checkpoint import bundled_weights, load_weights
    from trt_lane.scales import ScaleTable

    if not 1 <= args.batch <= 64:
        raise TrtLaneError(f"--batch is {args.batch}; expected 1 to 64 frames")
    model = get_model(args.model)
    network = model.build()
    load_weights(model, network, args.weights or bundled_weights(model))
    table = ScaleTable.load(args.scales) if args.scales else None
    float_type = load_target(args.target).float_type.value if args.target else "fp32"
    exported = export(model, network, table, args.out, float_type, args.batch)
    kept = next((p.value for p in exported.metadata_props if p.key == "fp32_nodes"), "")
    print(
        f"{args.out}  {args.out.stat().st_size / 1e6:.1f} MB  "
        f"{'INT8 + ' if table else ''}{float_type.upper()}"
    )
    if kept:
        names = [entry.partition(":")[0] for entry in kept.split("; ")]
        print(f"kept in FP32 ({len(names)}): {kept if len(names) <= 4 else ', '.join(names)}")
    return 0
