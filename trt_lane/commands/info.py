"""`trt-lane info`: what an artifact is, and whether it is whole."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

NAME = "info"
HELP = "say what an engine is, what it runs on, and whether its files are whole"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="the artifact's folder, sidecar or engine")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Verify and print."""
    from trt_lane.artifact import EngineArtifact

    artifact = EngineArtifact.load(args.artifact)
    if args.json:
        print(json.dumps(artifact.to_dict(), indent=2))
        return 0
    image = artifact.image
    devices = ", ".join(f"sm_{c}" for c in artifact.compute_capabilities) or "CPU"
    share = artifact.info.get("int8_share")
    rows = {
        "model": artifact.model,
        "target": f"{artifact.target} ({devices})",
        "runtime": f"{artifact.runtime} {artifact.runtime_range[0]} up to but not "
        f"{artifact.runtime_range[1]}, built with {artifact.built_with}",
        "precision": artifact.precision
        + (f", {share:.1%} of MACs INT8" if isinstance(share, (int, float)) else ""),
        "frame": f"{image.frame_hw[1]}x{image.frame_hw[0]}, or another size of that aspect ratio",
        "network input": f"{artifact.input_name} {image.input_hw[1]}x{image.input_hw[0]} "
        f"{image.order.value}",
        "decoder": artifact.decoder.get("name", "?"),
        "heads": ", ".join(f"{h.name} {'x'.join(map(str, h.shape))}" for h in artifact.heads),
        "engine": f"{artifact.engine_path} ({artifact.engine_path.stat().st_size / 1e6:.1f} MB)",
        "plugins": artifact.plugin_library or "none",
        "files": "whole: all digests agree",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
    return 0
