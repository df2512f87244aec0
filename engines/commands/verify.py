"""`python -m engines verify`: measure what INT8 cost, and prove the graph and the engine."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "verify"
HELP = "compare float, Q/DQ graph and engine by error statistics, lanes and score; draw a picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="folder that `python -m engines build` made")
    parser.add_argument("--float-onnx", type=Path, required=True, help="FP32 graph, same weights")
    parser.add_argument("--int8-onnx", type=Path, required=True, help="typed Q/DQ graph")
    parser.add_argument("--reference", type=Path, help="reference.npz from `python -m calibrators`")
    parser.add_argument("--data", default="synthetic:test", help="frames to measure on")
    parser.add_argument("--frames", type=int, default=300, help="at most so many, spread evenly")
    parser.add_argument("--out", type=Path, help="folder for summary.json and lanes.png")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print; exit status 1 when the graph is not what was calibrated."""
    import cv2

    from engines.build import LAYERS_NAME, read_layers
    from engines.layer_table import coverage
    from engines.summary import summarise, table
    from engines.verify import verify
    from trt_lane.artifact import EngineArtifact
    from trt_lane.datasets import open_dataset
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import write_bytes, write_json
    from trt_lane.picture import choose_frames, draw_comparison
    from trt_lane.progress import progress

    if args.frames < 1:
        raise TrtLaneError(f"--frames is {args.frames}; expected 1 or more")
    out = args.out or args.artifact
    dataset = open_dataset(args.data)
    count = min(len(dataset), args.frames)
    frames = [i * len(dataset) // count for i in range(count)]
    artifact = EngineArtifact.load(args.artifact)
    result = verify(
        args.float_onnx,
        args.int8_onnx,
        dataset,
        frames,
        args.reference,
        artifact,
        lambda indices: progress(indices, len(indices), "verify"),
    )
    final = result.forms.get("engine", result.forms["int8"])
    shown = choose_frames(final.comparison.distortions_px)
    sheet = draw_comparison(
        [dataset.frame(frames[i]) for i in shown],
        [result.forms["float"].lanes[i] for i in shown],
        [final.lanes[i] for i in shown],
        [
            f"{dataset.label(frames[i]).name}   LDS {final.comparison.distortions_px[i]:.2f} px"
            for i in shown
        ],
    )
    picture = out / "lanes.png"
    write_bytes(picture, cv2.imencode(".png", sheet)[1].tobytes())
    files = {"float_onnx": args.float_onnx, "int8_onnx": args.int8_onnx, "picture": picture}
    layers = coverage(read_layers(args.artifact / LAYERS_NAME))
    summary = summarise(result, dataset.spec, artifact, layers, files)
    text = table(summary)
    print(text)
    write_bytes(out / "summary.txt", f"{text}\n".encode())
    write_json(out / "summary.json", summary)
    return 0 if result.passed else 1
