"""Lanes as plain values for JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trt_lane.image import LARGEST_PX
from trt_lane.lanes import LaneSet

# Lanes may leave the frame far behind, but in float32 they have pixels there, too.
_LARGEST = 1e6


def lanes_to_plain(lanes: LaneSet) -> dict[str, Any]:
    """Height and width of the frame, and per lane its score and points [[x, y], ...] in px."""
    return {
        "height": lanes.frame_hw[0],
        "width": lanes.frame_hw[1],
        "lanes": [
            {"score": round(float(score), 6), "points": np.round(np.float64(points), 3).tolist()}
            for score, points in zip(lanes.scores, lanes.lanes(), strict=True)
        ],
    }


def lanes_from_plain(values: Mapping[str, Any]) -> LaneSet:
    """The inverse; wrong values are a ValueError, TypeError or KeyError."""
    lanes, frame_hw = values["lanes"], (values["height"], values["width"])
    if not all(type(size) is int and 0 <= size <= LARGEST_PX for size in frame_hw):
        raise ValueError(f"height and width are {frame_hw}; expected 0 to {LARGEST_PX} px")
    try:
        points = [np.float64(lane["points"]) for lane in lanes]
        scores = np.float64([lane["score"] for lane in lanes])
    except OverflowError:
        raise ValueError("a number of a lane is beyond any float") from None
    for numbers in (*points, scores):
        if not (np.abs(numbers) <= _LARGEST).all():  # nor is NaN
            raise ValueError("a number of a lane is not finite")
    return LaneSet.from_lanes(points, frame_hw, list(scores))
