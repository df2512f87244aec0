"""`python -m engines bundle`: a Q/DQ ONNX to the one archive that a vehicle installs."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "bundle"
HELP = "pack all that a vehicle needs to build, prove and run its own engine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    from engines.target import list_targets

    parser.add_argument("onnx", type=Path, help="typed Q/DQ ONNX from `python -m engines export`")
    parser.add_argument("--float-onnx", type=Path, required=True, help="FP32 graph, same weights")
    parser.add_argument("--target", required=True, help=", ".join(list_targets()))
    parser.add_argument("--out", type=Path, required=True, help="the archive to write")
    parser.add_argument("--scales", type=Path, help="scales.npz, for whoever audits the engine")
    parser.add_argument("--engine", type=Path, help="engine.onnx of `engines build --target cpu`")
    parser.add_argument("--data", default="synthetic:test", help="frames to prove an engine with")
    parser.add_argument("--plugin-sources", type=Path, help="the project's plugins/")
    parser.add_argument("--plugins", type=Path, help="library of decoders built for the device")
    parser.add_argument("--budget-ms", type=float, help="p99 latency to hold, frame to lanes")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="private Ed25519 key in PEM")


def run(args: argparse.Namespace) -> int:
    """Pack, say what came out."""
    from engines.bundle import Sources, make_bundle
    from engines.card import read_card, read_onnx
    from engines.target import load_target
    from trt_lane.datasets import open_dataset
    from trt_lane.errors import TrtLaneError
    from trt_lane.model import get_model
    from trt_lane.progress import progress

    if args.budget_ms is not None and not 0 < args.budget_ms < 1e6:
        raise TrtLaneError(f"--budget-ms is {args.budget_ms}; expected milliseconds above 0")
    card = read_card(read_onnx(args.onnx))
    origin = None if card is None else get_model(card.model).origin
    sources = Sources(
        args.onnx,
        args.float_onnx,
        args.scales,
        args.engine,
        args.plugin_sources,
        args.plugins,
        "" if origin is None else f"{origin.licence}, {origin.source} {origin.checkpoint}".strip(),
    )
    manifest = make_bundle(
        args.out,
        sources,
        load_target(args.target),
        open_dataset(args.data),
        budget_ms=args.budget_ms,
        key=args.sign,
        progress=lambda indices: progress(indices, len(indices), "golden frames"),
    )
    print(
        f"{args.out}  {args.out.stat().st_size / 1e6:.1f} MB  {manifest.model} for {args.target}, "
        f"{len(manifest.files)} files, {'signed' if args.sign else 'not signed'}"
    )
    print(f"on the device: trt-lane install {args.out.name}")
    return 0
