"""Outputs: who is told of results."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trt_lane.runtime.result import FrameResult


class Output(Protocol):
    """Takes every result of a run.

    Attributes:
        name: for the log.
        wants_end: set when its user has asked for the end of the run.
    """

    name: str
    wants_end: bool

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Take one result, with its frame where there is one.

        Raises:
            Exception: it cannot go on; the run goes on without it. BrokenPipeError ends the run.
        """
        ...

    def close(self) -> None:
        """Finish."""
        ...
