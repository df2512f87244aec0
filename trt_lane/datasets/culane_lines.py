"""CULane's lane files, `<image>.lines.txt`: a lane per line, "x y x y ..." in frame pixels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from trt_lane.datasets.base import read_text
from trt_lane.errors import TrtLaneError
from trt_lane.files import write_bytes

SUFFIX = ".lines.txt"
FARTHEST_PX = 1e9  # what still is a pixel in int32


def lines_name(image_name: str) -> str:
    """Name of the lane file that belongs to an image: its suffix exchanged."""
    return str(PurePosixPath(image_name).with_suffix("")) + SUFFIX


def read_lines(path: Path) -> list[np.ndarray]:
    """The lanes of a file, each float32 (P, 2) in the order written.

    An empty line is a lane without points, as the official evaluator reads it. A line with an odd
    number of values or with something that is no number is a TrtLaneError (the official evaluator
    drops its tail silently).
    """
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]


def write_lines(path: Path, lanes: Iterable[np.ndarray]) -> None:
    """Write lanes (P, 2) atomically; float32 values survive the round trip exactly.

    Lanes without points are left out: the official evaluator would count the empty line.
    """
    text = []
    for lane in lanes:
        values = [np.format_float_positional(v, trim="-") for v in np.float32(lane).ravel()]
        if values:
            text.append(" ".join(values) + "\n")
    write_bytes(path, "".join(text).encode())


def _parse(line: str, place: str) -> np.ndarray:
    words = line.split()
    if len(words) % 2:
        raise TrtLaneError(f"{place}: {len(words)} values; expected x y pairs, an even number")
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            raise TrtLaneError(f"{place}: {word!r} is not a number; expected x y pairs") from None
        if not abs(values[-1]) <= FARTHEST_PX:
            raise TrtLaneError(f"{place}: {word!r} is no place in a frame; leave the point out")
    return np.asarray(values, np.float64).astype(np.float32).reshape(-1, 2)
