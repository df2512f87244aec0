"""`python -m benchmarks roofline`: the least time a device needs, and where INT8 cannot help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench_report import BenchmarkReport
    from engines.card import ModelCard

NAME = "roofline"
HELP = "lower bounds per layer in FP16 and INT8 on a device's peaks, and the share reached"
SHOWN = 25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("onnx", type=Path, help="float or Q/DQ graph")
    parser.add_argument(
        "--target",
        default="all",
        help="agx-orin, jetson-orin, rtx4090 …, a file.toml, or all (default all)",
    )
    parser.add_argument(
        "--report", type=Path, help="of that model on that device: adds the share reached"
    )
    parser.add_argument("--all-layers", action="store_true", help=f"not the {SHOWN} slowest alone")
    parser.add_argument("--out", type=Path, help="also write everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Compute and print."""
    from benchmarks.bench_report import BenchmarkReport
    from benchmarks.roofline.bound import bounds
    from benchmarks.roofline.device import find_devices
    from benchmarks.roofline.same_device import check_device
    from benchmarks.roofline.work import layer_work
    from engines.card import read_card, read_onnx
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import write_json

    devices = find_devices(args.target)
    if args.report and len(devices) > 1:
        names = ", ".join(d.name for d in devices)
        raise TrtLaneError(f"--report was measured on one device; say which with --target: {names}")
    report = BenchmarkReport.load(args.report) if args.report else None
    model = read_onnx(args.onnx)
    unchecked = ""
    if report is not None:
        _check(report, args.report, read_card(model))
        unchecked = check_device(devices[0], report.target, report.environment.facts)
    work = layer_work(model)
    if not work:
        raise TrtLaneError(f"{args.onnx} has no layer that multiplies")
    found = [bounds(work, device) for device in devices]
    for entry in found if len(found) == 1 else ():
        print("\n".join(_layers(entry, args.all_layers)), end="\n\n")
    print("\n".join(_summary(found)))
    values = [entry.to_dict() for entry in found]
    if report is not None:
        summary = report.latency.summary()
        # By the device's own clock where it was asked: a call also copies, and may decode.
        network_ms = (summary["device"] or summary["stages"])["network"]["p50"]
        share = found[0].reached(network_ms)
        values[0] |= {"network_ms": network_ms, "reached": share}
        print(f"\nmeasured {network_ms:.3f} ms: {100 * share:.1f} % of the INT8 limit reached")
        if unchecked:
            print(f"not checked: {unchecked}")
    if args.out:
        write_json(args.out, {"schema": 1, "devices": values})
    return 0


def _check(report: BenchmarkReport, path: Path, card: ModelCard | None) -> None:
    """Refuse a report that says nothing about this graph."""
    from trt_lane.errors import TrtLaneError

    if "network" not in report.latency.stages:
        raise TrtLaneError(f"{path} has no time of the network")
    if card is not None and card.model != report.model:
        raise TrtLaneError(f"{path} is of {report.model}, the graph of {card.model}")


def _layers(found: object, everything: bool) -> list[str]:
    order = sorted(found.layers, key=lambda b: -b.int8_ms)
    rows = order if everything else order[:SHOWN]
    lines = [
        f"{'layer':40}{'MMACs':>9}{'KB INT8':>9}{'µs FP16':>9}{'µs INT8':>9}  bound by"
        "  INT8 cannot help"
    ]
    from benchmarks.roofline.bound import bytes_moved

    for b in rows:
        name = b.work.node if len(b.work.node) < 40 else b.work.node[:38] + "…"
        lines.append(
            f"{name:40}{b.work.macs / 1e6:9.2f}{bytes_moved(b.work, True) / 1e3:9.0f}"
            f"{1e3 * b.fp16_ms:9.2f}{1e3 * b.int8_ms:9.2f}  {b.limit:8}  {b.reason}"
        )
    hidden = len(order) - len(rows)
    return lines + ([f"… and {hidden} lighter layers (--all-layers)"] if hidden else [])


def _summary(found: list) -> list[str]:
    head = ("FP16 ms", "INT8 ms", "gain", "memory-bound", "L2 warm ms")
    widths = (9, 9, 6, 14, 12)
    lines = [f"{'device':14}" + "".join(f"{h:>{w}}" for h, w in zip(head, widths, strict=True))]
    for entry in found:
        bound = sum(b.int8_ms for b in entry.layers if b.limit == "memory") / entry.int8_ms
        lines.append(
            f"{entry.device.name:14}{entry.fp16_ms:9.4f}{entry.int8_ms:9.4f}"
            f"{entry.fp16_ms / entry.int8_ms:6.2f}{100 * bound:12.0f} %{entry.cached_ms:12.4f}  "
            f"{entry.device.description}"
        )
    lines += [f"  {entry.device.name}: {entry.device.source}" for entry in found]
    return [
        *lines,
        "at least so long: launches, pooling and copies are taken to cost nothing. L2 warm: what "
        "fits in the last cache stays there",
    ]
