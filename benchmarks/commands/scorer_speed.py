"""`python -m benchmarks scorer-speed`: our CULane scorer against plain ones, in one run."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "scorer-speed"
HELP = "images per second of the CULane scorer against plain ways with the same counts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("--pred", type=Path, help="folder of .lines.txt; default: made-up lanes")
    parser.add_argument("--anno", type=Path, help="likewise")
    parser.add_argument("--list", type=Path, help="image names, one per line")
    parser.add_argument("--images", type=int, default=100, help="of made-up lanes (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts (default 3)")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print; exit status 1 when the counts differ."""
    from benchmarks.machine import machine
    from benchmarks.scorer_speed import made_pairs, read_pairs, scorer_speed
    from trt_lane.errors import TrtLaneError
    from trt_lane.files import check_writable, write_json

    if args.out:
        check_writable(args.out)  # before minutes of measuring
    given = [args.pred, args.anno, args.list]
    if any(given) and not all(given):
        raise TrtLaneError("--pred, --anno and --list go together; give all three or none")
    if min(args.images, args.rounds) < 1:
        raise TrtLaneError("--images and --rounds: expected 1 or more")
    pairs = read_pairs(*given) if args.pred else made_pairs(args.images)
    found = scorer_speed(pairs, args.rounds)
    ours = found[0]
    print(f"{len(pairs)} images, one thread, the fastest of {args.rounds} rounds")
    for way in found:
        same = "same counts" if way.counts == ours.counts else f"OTHER COUNTS {way.counts}"
        print(
            f"{way.name:38}{len(pairs) / way.seconds:9.1f} images/s"
            f"{way.seconds / ours.seconds:8.2f} x our time   {same}"
        )
    if args.out:
        ways = [{**vars(way), "times_ours": way.seconds / ours.seconds} for way in found]
        write_json(
            args.out, {"schema": 1, "images": len(pairs), "machine": machine(1), "ways": ways}
        )
    return int(any(way.counts != ours.counts for way in found))
