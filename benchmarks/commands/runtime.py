"""`python -m benchmarks runtime`: how fast and how large a CPU detector is, float against INT8."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "runtime"
HELP = "time the float graph and the INT8 engine in ONNX Runtime in turn, stage by stage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="folder of an engine made with TARGET=cpu")
    parser.add_argument("--float-onnx", type=Path, required=True, help="FP32 graph, same network")
    parser.add_argument("--data", default="synthetic:test", help="frames (default synthetic:test)")
    parser.add_argument("--frames", type=int, default=100, help="so many at most (default 100)")
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[1, 2],
        metavar="N",
        help="of the CPU runtime, each in turn (default 1 2)",
    )
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from benchmarks.cold_start import cold_start
    from benchmarks.machine import machine
    from benchmarks.runtime import as_float, compare
    from trt_lane.artifact import EngineArtifact
    from trt_lane.datasets import open_dataset
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import check_writable, write_json
    from trt_lane.progress import progress

    if args.out:
        check_writable(args.out)  # before minutes of measuring
    for name, numbers in (("--frames", [args.frames]), ("--threads", args.threads)):
        if min(numbers) < 1:
            raise TrtLaneError(f"{name} is {min(numbers)}; expected 1 or more")
    artifact = EngineArtifact.load(args.artifact)
    as_float(artifact, args.float_onnx)  # a mistake shows before frames are rendered
    dataset = open_dataset(args.data)
    count = min(len(dataset), args.frames)
    frames = [dataset.frame(i) for i in progress(range(count), count, "frames")]
    results = [
        compare(artifact, args.float_onnx, progress(frames, count, f"{n} threads"), n)
        for n in args.threads
    ]
    started = cold_start(args.artifact, max(args.threads))
    report = {
        "schema": 1,
        "model": artifact.model,
        "data": dataset.spec,
        "frames": count,
        "machine": machine(max(args.threads)),
        "comparisons": [result.to_dict() for result in results],
        "cold_start": started,
    }
    print(_text(report))
    if args.out:
        write_json(args.out, report)
    return 0


def _text(report: dict) -> str:
    here = report["machine"]
    lines = [
        f"{report['model']} on {report['frames']} frames of {report['data']}, float and INT8 in "
        "turn",
        f"{here['cpu']}, {here['cores']} cores, ONNX Runtime {here['versions']['onnxruntime']}",
        "",
        f"{'ms':18}{'float p50':>10}{'p99':>8}{'INT8 p50':>10}{'p99':>8}   INT8 / float (95 %)",
    ]
    for found in report["comparisons"]:
        for stage, ratio in found["ratio"].items():
            ours, floats = found["int8"][stage], found["float"][stage]
            lines.append(
                f"{stage:11}{found['threads']:2} thr  {floats['p50_ms']:10.2f}"
                f"{floats['p99_ms']:8.2f}{ours['p50_ms']:10.2f}{ours['p99_ms']:8.2f}   "
                f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
            )
    cold = report["cold_start"]
    lines += [
        "",
        f"new process    import trt_lane {cold['import_s']:.3f} s, with LaneDetector "
        f"{cold['detector_import_s']:.3f} s, load {cold['load_s']:.3f} s",
        f"memory         {cold['resident_mb']:.0f} MB resident, {cold['peak_mb']:.0f} MB at most, "
        f"{'WITH' if cold['torch'] else 'without'} torch",
    ]
    return "\n".join(lines)
