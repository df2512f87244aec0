"""Golden frames: pictures with the lanes that a right engine finds on them.

An engine of a deep quantised network is not its simulation to the bit: one flipped rounding moves
the heads by as much as quantisation itself. So an engine is judged by its lanes: nearly all must be
where ONNX Runtime's are, and none may be bent by much more than INT8 bends them from float. A wrong
normalisation, a wrong scale or a broken kernel is far outside of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json
from trt_lane.lanes import LaneSet
from trt_lane.lanes_json import lanes_from_plain, lanes_to_plain
from trt_lane.metrics.culane import agreement
from trt_lane.metrics.lane_distortion import mean_lane_distortion_score, tau_px

SCHEMA = 1
FOLDER = "golden/"
GOLDEN = f"{FOLDER}golden.json"
# Of the lanes; lets one of ten go that lies at a decoder's threshold.
REQUIRED_AGREEMENT = 0.9
# Two quantised forms are each one quantisation error away from float, on their own sides.
DISTORTION_FACTOR = 3.0
# Of the frame's width: less than this nobody can see, and a CPU's other rounding may do it.
DISTORTION_FLOOR = 0.001


@dataclass(frozen=True, eq=False)
class GoldenFrame:
    """One picture: its file, and the lanes of the float model and of the Q/DQ graph on it."""

    file: str
    float_lanes: LaneSet
    int8_lanes: LaneSet


@dataclass(frozen=True, eq=False)
class GoldenSet:
    """All golden frames of a bundle, and how far an engine may be from the Q/DQ graph."""

    frames: tuple[GoldenFrame, ...]

    def __post_init__(self) -> None:
        if not self.frames or not any(len(f.int8_lanes) for f in self.frames):
            raise ValueError("golden frames without any lane prove nothing")

    @property
    def distortion_limit_px(self) -> float:
        """Largest mean Lane Distortion Score."""
        int8 = [f.int8_lanes for f in self.frames]
        by_int8 = mean_lane_distortion_score([f.float_lanes for f in self.frames], int8)
        width = max(lanes.frame_hw[1] for lanes in int8)
        most = tau_px(int8[0].frame_hw) / 2  # at tau lanes count as unrelated
        return min(max(DISTORTION_FACTOR * by_int8, DISTORTION_FLOOR * width), most)

    def to_plain(self) -> dict[str, Any]:
        """golden.json."""
        frames = [
            {
                "file": frame.file,
                "float": lanes_to_plain(frame.float_lanes),
                "int8": lanes_to_plain(frame.int8_lanes),
            }
            for frame in self.frames
        ]
        return {"schema": SCHEMA, "frames": frames}

    @classmethod
    def load(cls, folder: Path) -> GoldenSet:
        """Those of an unpacked bundle."""
        values = read_json(folder / GOLDEN)
        try:
            if values["schema"] != SCHEMA:
                raise ValueError(f"schema is {values['schema']!r}, expected {SCHEMA}")
            return cls(tuple(map(_frame, values["frames"])))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise TrtLaneError(
                f"{folder / GOLDEN} does not describe golden frames: {error}; make the bundle again"
            ) from None


@dataclass(frozen=True)
class GoldenResult:
    """How an engine did.

    Attributes:
        passed: whether it is the bundle's network.
        agreement: F1 of its lanes against the Q/DQ graph's, in [0, 1].
        distortion_px: mean Lane Distortion Score against them.
        limit_px: what that may be.
        frames: how many.
    """

    passed: bool
    agreement: float
    distortion_px: float
    limit_px: float
    frames: int

    def __str__(self) -> str:
        return (
            f"golden frames {'pass' if self.passed else 'FAIL'}: agreement {self.agreement:.3f} "
            f"(at least {REQUIRED_AGREEMENT}), distortion {self.distortion_px:.2f} px "
            f"(at most {self.limit_px:.2f}) on {self.frames} frames"
        )


def run_golden(
    detect: Callable[[np.ndarray], LaneSet], folder: Path, golden: GoldenSet | None = None
) -> GoldenResult:
    """Run an engine on the golden frames of an unpacked bundle.

    Args:
        detect: LaneDetector.detect with Fit.CROP.
        folder: where the bundle was unpacked.
        golden: loaded already.
    """
    golden = golden or GoldenSet.load(folder)
    found = [detect(read_frame(folder / frame.file)) for frame in golden.frames]
    return judge(golden, found)


def judge(golden: GoldenSet, found: Sequence[LaneSet]) -> GoldenResult:
    """Lanes found on the golden frames, in their order, against what was to be found."""
    expected = [frame.int8_lanes for frame in golden.frames]
    f1 = agreement(found, expected).f1
    distortion, limit = mean_lane_distortion_score(expected, found), golden.distortion_limit_px
    passed = f1 >= REQUIRED_AGREEMENT and distortion <= limit
    return GoldenResult(passed, f1, distortion, limit, len(expected))


def read_frame(path: Path) -> np.ndarray:
    """A golden picture, BGR uint8 (H, W, 3)."""
    frame = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if frame is None:
        raise TrtLaneError(f"{path} is missing or no picture; install the bundle again")
    return frame


def _frame(values: Mapping[str, Any]) -> GoldenFrame:
    # The name is one of the manifest's: whoever unpacked the bundle has checked it.
    file = values["file"]
    if not isinstance(file, str) or not file.startswith(FOLDER) or ".." in file:
        raise ValueError(f"{file!r} is no golden picture")
    in_float, in_int8 = lanes_from_plain(values["float"]), lanes_from_plain(values["int8"])
    if in_float.frame_hw != in_int8.frame_hw or min(in_int8.frame_hw) < 1:
        raise ValueError(f"{file} has lanes of {in_float.frame_hw} and {in_int8.frame_hw} pixels")
    return GoldenFrame(file, in_float, in_int8)
