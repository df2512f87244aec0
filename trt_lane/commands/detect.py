"""`trt-lane detect`: lanes on images or on a video, as files and as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "detect"
HELP = "find the lanes on images or a video, write them and draw them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("artifact", type=Path, help="the artifact's folder, sidecar or engine")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="DIR|FILE", help="a folder (searched through) or image")
    source.add_argument("--video", metavar="FILE", help="a video")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--format",
        choices=("culane", "json"),
        default="culane",
        help="a .lines.txt per frame, or one lanes.json (default culane)",
    )
    parser.add_argument(
        "--fit",
        choices=("error", "stretch", "crop"),
        default="error",
        help="frames of another aspect ratio: refuse (default), stretch or crop them",
    )
    parser.add_argument("--no-draw", action="store_true", help="write lanes only, no pictures")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def run(args: argparse.Namespace) -> int:
    """Detect, write, say how many."""
    from itertools import islice

    from trt_lane.datasets import images, video
    from trt_lane.detector import LaneDetector
    from trt_lane.errors import TrtLaneError
    from trt_lane.predictions import open_writer
    from trt_lane.progress import progress

    if args.limit is not None and args.limit < 1:
        raise TrtLaneError(f"--limit is {args.limit}; expected 1 or more")
    data = images.open(args.images) if args.images else video.VideoFrames(Path(args.video))
    total = len(data) if args.limit is None else min(args.limit, len(data))
    frames = lanes = 0
    with (
        LaneDetector.load(args.artifact, threads=args.threads, fit=args.fit) as detector,
        open_writer(args.out, args.format, not args.no_draw, data) as writer,
    ):
        for sample in progress(islice(data, total), total, "detect"):
            try:
                found = detector.detect(sample.frame)
            except TrtLaneError as error:
                raise TrtLaneError(f"{sample.name}: {error}") from None
            writer.write(sample.name, sample.frame, found)
            frames += 1
            lanes += len(found)
    print(f"{frames} frames, {lanes} lanes -> {args.out}")
    return 0
