"""FrameResult: lanes with their age and whether they may be used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from trt_lane.lanes import LaneSet
from trt_lane.lanes_json import lanes_to_plain

NS_PER_MS = 1_000_000
SCHEMA = 1


class Fault(str, Enum):
    """Why a result may not be used."""

    NONE = ""
    STALE = "stale"  # valid once, too old now
    NOT_FINITE = "not finite"  # the network answered NaN or infinity
    BAD_FRAME = (
        "bad frame"  # what the camera gave is no frame, or of a field of view that is refused
    )
    CAMERA_LOST = "camera lost"  # there is no frame
    ENGINE_LOST = "engine lost"  # the device or the runtime failed


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What is known of one frame of one camera.

    Attributes:
        camera: number of the camera, from 0.
        sequence: number of the frame since the camera was opened first, dropped ones counted.
        captured_ns: monotonic clock when the frame came out of the camera (of the last frame, when
            there is none).
        finished_ns: when its lanes were known.
        lanes: in the frame's pixels; none unless the fault is NONE.
        fault: NONE, or why there are no lanes.
        max_age_ms: from when on nobody may take the lanes for the road ahead.
    """

    camera: int
    sequence: int
    captured_ns: int
    finished_ns: int
    lanes: LaneSet
    fault: Fault
    max_age_ms: float

    def __post_init__(self) -> None:
        if self.fault is not Fault.NONE and len(self.lanes):
            raise ValueError(f"a result with the fault {self.fault.value!r} has lanes")

    def age_ms(self, now_ns: int | None = None) -> float:
        """Milliseconds since the frame came out of the camera."""
        return ((time.monotonic_ns() if now_ns is None else now_ns) - self.captured_ns) / NS_PER_MS

    @property
    def latency_ms(self) -> float:
        """From the camera to the lanes."""
        return (self.finished_ns - self.captured_ns) / NS_PER_MS

    def at(self, now_ns: int | None = None) -> FrameResult:
        """The result as it is to be taken at that moment: without its lanes once it is too old."""
        age = self.age_ms(now_ns)
        # A frame of the future is of another machine's clock: it is no fresher than an old one.
        if self.fault is Fault.NONE and not 0 <= age <= self.max_age_ms:
            return self.without_lanes(Fault.STALE)
        return self

    def without_lanes(self, fault: Fault) -> FrameResult:
        """The same frame with a fault in the place of its lanes."""
        none = LaneSet.from_lanes([], self.lanes.frame_hw)
        return FrameResult(
            self.camera,
            self.sequence,
            self.captured_ns,
            self.finished_ns,
            none,
            fault,
            self.max_age_ms,
        )

    @property
    def valid(self) -> bool:
        """Whether the lanes may be used, when they were finished; later, ask `at()`."""
        return self.fault is Fault.NONE

    def to_plain(self, now_ns: int | None = None) -> dict[str, Any]:
        """Values for JSON, with the age at that moment and the lanes that it leaves."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        found = self.at(now_ns)
        return {
            "schema": SCHEMA,
            "camera": found.camera,
            "sequence": found.sequence,
            "valid": found.valid,
            "fault": found.fault.value,
            "age_ms": round(found.age_ms(now_ns), 3),
            "max_age_ms": found.max_age_ms,
            "captured_ns": found.captured_ns,
            "latency_ms": round(found.latency_ms, 3),
            **lanes_to_plain(found.lanes),
        }
