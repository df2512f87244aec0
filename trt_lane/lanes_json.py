"""Lanes as plain values for JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trt_lane.lanes import LaneSet


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
    lanes = values["lanes"]
    return LaneSet.from_lanes(
        [np.asarray(lane["points"], np.float32) for lane in lanes],
        (values["height"], values["width"]),
        [float(lane["score"]) for lane in lanes],
    )
