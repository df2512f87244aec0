"""`python -m benchmarks vehicle`: what the runtime adds to its network, memory, cold start."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

NAME = "vehicle"
HELP = "measure `trt-lane run`: what it adds to the network, whether memory grows, cold start"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="an artifact, for any runtime")
    parser.add_argument(
        "--video", type=Path, required=True, help="file, gone through again and again"
    )
    parser.add_argument("--frames", type=int, default=2000, help="of the run (default 2000)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--starts", type=int, default=3, help="cold starts (default 3)")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from benchmarks.machine import machine
    from benchmarks.vehicle import decoded, first_lanes, measure_run
    from trt_lane.artifact import EngineArtifact
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import check_writable, write_json

    if args.out:
        check_writable(args.out)  # before minutes of measuring
    if args.frames < 100 or args.starts < 0:
        raise TrtLaneError("expected at least 100 frames and 0 starts")
    artifact = EngineArtifact.load(args.artifact)
    starts = [first_lanes(args.artifact, args.video, args.threads) for _ in range(args.starts)]
    ran = measure_run(artifact, decoded(args.video), args.frames, args.threads)
    report = {
        "schema": 1,
        "model": artifact.model,
        "input_hw": list(artifact.image.input_hw),
        "runtime": artifact.runtime,
        "run": ran,
        "starts": starts,
        "machine": machine(args.threads or 0),
    }
    height, width = artifact.image.input_hw
    print(f"{artifact.model} at {height}x{width}, {artifact.runtime} {artifact.built_with}")
    print(
        f"frame {ran['frame_ms']:.2f} ms, network {ran['network_ms']:.2f} ms, the rest "
        f"{ran['rest_ms']:.2f} ms: {ran['rest_of_network']:.1%} of the network"
    )
    print(
        f"memory of {ran['frames']} frames by thirds: {ran['resident_mb']} MB, "
        f"{ran['growth_bytes_per_frame']:.2f} bytes a frame; {ran['invalid']} invalid"
    )
    for start in starts:
        print(
            f"first lanes after {start['first_lanes_s']:.2f} s, {start['resident_mb']:.0f} MB "
            f"resident (peak {start['peak_mb']:.0f}), torch {_TORCH[start['torch']]}"
        )
    if args.out:
        write_json(args.out, json.loads(json.dumps(report)))
    return 0


_TORCH = {False: "not loaded", True: "LOADED"}
