"""`trt-lane score`: the official scores of prediction files, for anyone's detector."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

NAME = "score"
HELP = "score prediction files exactly as the official programs do"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define `score culane`, `score curvelanes`, `score llamas` and `score tusimple`."""
    metrics = parser.add_subparsers(dest="metric", metavar="METRIC", required=True)
    culane = metrics.add_parser("culane", help="F1 of drawn lanes", description=_CULANE)
    culane.add_argument("--width", type=_positive, default=30, help="of lanes in px (default 30)")
    curvelanes = metrics.add_parser(
        "curvelanes", help="F1 of lanes drawn on 224x224 px", description=_CURVELANES
    )
    curvelanes.set_defaults(width=5)
    for drawn, (height, width) in ((culane, (590, 1640)), (curvelanes, (1440, 2560))):
        drawn.add_argument(
            "--pred", type=Path, required=True, help="folder of predicted .lines.txt"
        )
        drawn.add_argument(
            "--anno", type=Path, required=True, help="folder of annotated .lines.txt"
        )
        drawn.add_argument("--list", type=Path, required=True, help="image names, one per line")
        drawn.add_argument(
            "--size", type=_size, default=(height, width), metavar="WxH",
            help=f"frame (default {width}x{height})",
        )  # fmt: skip
        drawn.add_argument(
            "--categories", type=Path, help="folder of lists (CULane's list/test_split): a row each"
        )
    tusimple = metrics.add_parser(
        "tusimple", help="accuracy, FP and FN", description="Score a file of TuSimple predictions."
    )
    tusimple.add_argument("--pred", type=Path, required=True, help="predictions, JSON lines")
    tusimple.add_argument("--label", type=Path, required=True, help="labels, JSON lines")
    llamas = metrics.add_parser(
        "llamas", help="F1 of lanes drawn on 1276x717 px", description=_LLAMAS
    )
    llamas.add_argument("--pred", type=Path, required=True, help="folder of drive/*.lines.txt")
    llamas.add_argument(
        "--anno", type=Path, required=True, help="folder of labels, as labels/valid"
    )
    for drawn in (culane, curvelanes, llamas):
        drawn.add_argument("--iou", type=_share, default=0.5, help="threshold (default 0.5)")
        drawn.add_argument(
            "--jobs", type=_positive, help="processes (default: one per core for long lists)"
        )
    for metric in (culane, curvelanes, llamas, tusimple):
        metric.add_argument("--json", action="store_true", help="print JSON instead of a table")


_FILES = (
    "Score .lines.txt files against annotated ones. A missing prediction or annotation file means "
    "an image without lanes, as officially."
)
_CULANE = f"{_FILES} Lanes are drawn on the frame."
_CURVELANES = (
    f"{_FILES} Lanes are drawn 5 px wide on a picture of 224x224 px; --size is that of the frames, "
    "all of one size: score lists of other sizes apart and add up TP, FP and FN."
)
_LLAMAS = (
    "Score .lines.txt files against LLAMAS' label files: drive/frame.lines.txt for every "
    "drive/frame.json, empty where there is no lane."
)


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    result, table = {"tusimple": _tusimple, "llamas": _llamas}.get(args.metric, _drawn)(args)
    print(json.dumps(result, indent=2) if args.json else table)
    return 0


def _drawn(args: argparse.Namespace) -> tuple[dict, str]:
    from trt_lane.metrics.culane_files import score_files
    from trt_lane.metrics.report import category_to_dict, counts_to_dict
    from trt_lane.model import Metric

    drawing = (args.iou, args.size, args.width)
    files = (args.pred, args.anno, args.list)
    scored = score_files(*files, *drawing, args.categories, args.jobs, Metric(args.metric))
    result = {
        "metric": args.metric,
        "images": scored.images,
        "images_without_prediction": scored.without_prediction,
        "iou": args.iou,
        "width_px": args.width,
        "frame": f"{args.size[1]}x{args.size[0]}",
        **counts_to_dict(scored.total),
    }
    if args.categories:
        result["categories"] = {
            name: category_to_dict(name, counts) for name, counts in scored.categories.items()
        }
    return result, _table(result)


def _llamas(args: argparse.Namespace) -> tuple[dict, str]:
    from trt_lane.metrics.llamas import FRAME_HW, WIDTH_PX
    from trt_lane.metrics.llamas_files import score_files
    from trt_lane.metrics.report import counts_to_dict

    scored = score_files(args.pred, args.anno, args.iou, args.jobs)
    result = {
        "metric": args.metric,
        "images": scored.images,
        "iou": args.iou,
        "width_px": WIDTH_PX,
        "frame": f"{FRAME_HW[1]}x{FRAME_HW[0]}",
        **counts_to_dict(scored.total),
    }
    return result, _table(result)


def _table(result: dict) -> str:
    rows = {"all": result, **result.get("categories", {})}
    width = max(map(len, rows))
    lines = [f"{'':{width}}      F1  precision  recall      TP      FP      FN"]
    for name, row in rows.items():
        if "f1" in row:
            shares = f"{row['f1']:8.4f}   {row['precision']:8.4f}{row['recall']:8.4f}"
            counts = f"{row['tp']:8d}{row['fp']:8d}{row['fn']:8d}"
        else:  # crossroads have no lanes to find
            shares, counts = f"{'-':>8}   {'-':>8}{'-':>8}", f"{'-':>8}{row['fp']:8d}{'-':>8}"
        lines.append(f"{name:{width}}{shares}{counts}")
    missing = result.get("images_without_prediction", 0)
    note = f", {missing} without a prediction file" if missing else ""
    lines.append(
        f"{result['images']} images{note}; IoU > {result['iou']:g}, lanes {result['width_px']} px "
        "wide"
    )
    return "\n".join(lines)


def _tusimple(args: argparse.Namespace) -> tuple[dict, str]:
    from trt_lane.metrics.tusimple_files import score_files

    score = score_files(args.pred, args.label)
    result = {
        "metric": "tusimple",
        "images": score.images,
        "accuracy": score.accuracy,
        "fp": score.fp,
        "fn": score.fn,
    }
    table = (
        f"accuracy      FP      FN\n{score.accuracy:8.4f}{score.fp:8.4f}{score.fn:8.4f}\n"
        f"{score.images} images"
    )
    return result, table


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number in [0, 1)")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 1 to 1000")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}; expected WIDTHxHEIGHT in px, e.g. 1640x590")
    return int(match[2]), int(match[1])
