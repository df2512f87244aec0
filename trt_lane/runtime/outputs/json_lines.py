"""Results as JSON, one a line, on a stream."""

from __future__ import annotations

import json
from typing import TextIO

import numpy as np

from trt_lane.runtime.result import FrameResult


class JsonLines:
    """Writes a line per result, at once."""

    name = "json lines"
    wants_end = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def publish(self, result: FrameResult, frame: np.ndarray | None) -> None:
        """Write one line."""
        self._stream.write(json.dumps(result.to_plain(), allow_nan=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """The stream is its owner's."""
