"""Wall time of a run that may be cut off at any moment and goes on in another process."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json, write_json

BEAT_S = 5.0


class Stopwatch(AbstractContextManager):
    """Seconds of this run and, where it goes on from an earlier one's state, of that one too.

    Args:
        path: where the time so far is kept while running; removed at the end.
        goes_on: whether the earlier run's state is there, so that its time counts.
    """

    def __init__(self, path: Path, goes_on: bool) -> None:
        self._path, self._before_s = path, 0.0
        if goes_on and path.is_file():
            try:
                self._before_s = float(read_json(path))
            except (TrtLaneError, TypeError, ValueError):
                self._before_s = 0.0
        self.resumed = self._before_s > 0
        self._seconds: float | None = None  # once stopped
        self._stop = threading.Event()

    def __enter__(self) -> Stopwatch:
        self._start = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._seconds = self.seconds
        if kind is None:
            self._path.unlink(missing_ok=True)
        else:
            self._keep()

    @property
    def seconds(self) -> float:
        """So far, or in all once it has stopped."""
        if self._seconds is not None:
            return self._seconds
        return self._before_s + time.monotonic() - self._start

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            self._keep()

    def _keep(self) -> None:
        # Where the disk is full, that is for the work to say: its error comes first.
        with suppress(TrtLaneError):
            write_json(self._path, self.seconds)
