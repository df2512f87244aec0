"""Engine: a detector that is opened anew when its device or its runtime fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from trt_lane.detector import Detection, LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.runtime.backoff import Backoff

FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
# After a minute: some errors of a GPU are only over when its process is.
GIVE_UP_AFTER = 8


class EngineGoneError(TrtLaneError):
    """The engine does not come back in this process."""

    exit_status = 70  # as of the watchdog: start the process again


class Engine:
    """The detector of a run, opened at once: a failure there is the user's to mend.

    Args:
        opener: opens a LaneDetector.
        log: told in one line what happened.

    Raises:
        EngineGoneError: from `detect`, after so many failures in a row.
    """

    def __init__(self, opener: Callable[[], LaneDetector], log: Callable[[str], None]) -> None:
        self._opener, self._log = opener, log
        self._backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self._retry_ns = 0
        self.restarts = 0
        self._detector: LaneDetector | None = opener()

    @property
    def is_up(self) -> bool:
        """Whether there is a detector now."""
        return self._detector is not None

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detection] | None:
        """Detections of frames that were checked, or None while the engine is lost."""
        if self._detector is None and not self._reopen():
            return None
        try:
            found = self._detector.detect_many(frames)
        except Exception as error:  # runtimes raise kinds of their own, and CUDA errors stick
            self._lose(error)
            return None
        self._backoff.reset()
        return found

    def close(self) -> None:
        """Free the detector."""
        detector, self._detector = self._detector, None
        if detector is not None:
            detector.close()

    def _lose(self, error: Exception) -> None:
        self._log(f"engine lost: {type(error).__name__}: {error}")
        try:
            self.close()
        except Exception as second:  # a lost device refuses to be freed, too
            self._log(f"engine could not be freed: {type(second).__name__}: {second}")
        self._wait_before_retry()

    def _reopen(self) -> bool:
        if time.monotonic_ns() < self._retry_ns:
            return False
        try:
            self._detector = self._opener()
        except (TrtLaneError, OSError, MemoryError, RuntimeError) as error:
            self._log(f"engine does not open: {error}")
            self._wait_before_retry()
            return False
        self.restarts += 1
        self._log(f"engine opened again, for the {self.restarts}. time")
        return True

    def _wait_before_retry(self) -> None:
        if self._backoff.failures >= GIVE_UP_AFTER:
            raise EngineGoneError(
                f"the engine failed {self._backoff.failures} times in a row; start the program "
                "again, and see `trt-lane selfcheck`"
            )
        self._retry_ns = time.monotonic_ns() + round(1e9 * self._backoff.next_s())
