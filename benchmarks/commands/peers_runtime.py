"""`python -m benchmarks peers-runtime`: PyTorch, ONNX Runtime and OpenVINO on the same frames."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "peers-runtime"
HELP = "time what else could run the model on the same frames, with our and with official decoding"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="folder of an engine made with TARGET=cpu")
    parser.add_argument("--float-onnx", type=Path, required=True, help="FP32 graph, same weights")
    parser.add_argument("--weights", type=Path, help="checkpoint (default: the bundled one)")
    parser.add_argument("--data", default="synthetic:test", help="frames (default synthetic:test)")
    parser.add_argument("--frames", type=int, default=100, help="for the F1 (default 100)")
    parser.add_argument(
        "--calibration-data",
        default="synthetic:calibration",
        help="for ONNX Runtime's INT8 (default synthetic:calibration)",
    )
    parser.add_argument(
        "--calibration-frames", type=int, default=32, help="at most so many (default 32)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of every runtime (default 1)")
    parser.add_argument("--rounds", type=int, default=12, help="of 8 frames each (default 12)")
    parser.add_argument("--peers", help="'PyTorch eager,OpenVINO float' … (default all)")
    parser.add_argument("--report", type=Path, help="report.json to put the rows into")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from dataclasses import replace

    from benchmarks.bench_report import BenchmarkReport
    from benchmarks.html import page
    from benchmarks.machine import machine
    from benchmarks.peer_networks import Subject
    from benchmarks.peer_rows import peer_rows, peer_text
    from benchmarks.peer_runtimes import check_names, run_peers
    from benchmarks.runtime import as_float
    from trt_lane.artifact import EngineArtifact
    from trt_lane.datasets import open_dataset
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import check_writable, write_bytes, write_json
    from trt_lane.fit import Fit, fit_frame
    from trt_lane.frame_results import spread_indices

    if args.out:
        check_writable(args.out)  # before minutes of measuring
    for name in ("frames", "calibration_frames", "threads"):
        if getattr(args, name) < 1:
            raise TrtLaneError(f"--{name.replace('_', '-')} is {getattr(args, name)}; expected 1+")
    names = [n.strip() for n in args.peers.split(",")] if args.peers else None
    check_names(names)
    artifact = EngineArtifact.load(args.artifact)
    as_float(artifact, args.float_onnx)  # a mistake shows before frames are read
    report = BenchmarkReport.load(args.report) if args.report else None
    if report is not None and report.digests.get("engine") != artifact.digests["engine"]:
        raise TrtLaneError(f"{args.report} is of another engine than {args.artifact}")
    dataset, calibration = open_dataset(args.data), open_dataset(args.calibration_data)
    indices = spread_indices(len(dataset), args.frames)
    image = artifact.image
    inputs = [
        image.to_tensor(fit_frame(calibration.frame(i), image, Fit.CROP).frame)
        for i in spread_indices(len(calibration), args.calibration_frames)
    ]
    import numpy as np

    subject = Subject(artifact, args.float_onnx, args.weights, args.threads, np.stack(inputs))
    found = run_peers(subject, [dataset.frame(i) for i in indices], args.rounds, names)
    labels = [dataset.label(i) for i in indices]
    rows = peer_rows(found, dataset.metric, labels)
    print(peer_text(rows))
    print(f"{len(indices)} frames of {dataset.spec}, {args.threads} threads, in turn")
    if args.out:
        facts = {"schema": 1, "model": artifact.model, "machine": machine(args.threads)}
        write_json(args.out, {**facts, "data": dataset.spec, "rows": rows})
    if report is not None:
        report = replace(report, peers=tuple(rows))
        path = args.report / "report.json" if args.report.is_dir() else args.report
        report.save(path)
        write_bytes(path.with_name("report.html"), page(report).encode())
    return 0
