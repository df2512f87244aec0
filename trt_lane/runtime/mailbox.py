"""Mailbox: room for one frame between a camera and the network; the newest wins."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Captured:
    """A frame as it came: its number, when it came (monotonic ns), its pixels."""

    sequence: int
    captured_ns: int
    frame: np.ndarray


class Mailbox:
    """One frame, replaced by the next: what is taken is never older than it must be.

    Args:
        arrived: set whenever a frame is put, by whoever waits for several mailboxes.
        keep_all: instead of replacing a frame, wait until it was taken (files, where each counts).
    """

    def __init__(self, arrived: threading.Event, keep_all: bool = False) -> None:
        self._arrived, self._keep_all = arrived, keep_all
        self._changed = threading.Condition()
        self._held: Captured | None = None
        self._closed = False
        self._dropped = 0
        self._newest_ns = 0

    @property
    def newest_ns(self) -> int:
        """When the newest frame came, taken or not; 0 before the first one."""
        return self._newest_ns

    @property
    def dropped(self) -> int:
        """Frames that were replaced before anybody took them."""
        return self._dropped

    def put(self, captured: Captured) -> None:
        """Leave a frame; with `keep_all` this waits for room, or for `close`."""
        with self._changed:
            self._newest_ns = captured.captured_ns
            while self._keep_all and self._held is not None and not self._closed:
                self._changed.wait()
            self._dropped += self._held is not None
            self._held = captured
        self._arrived.set()

    def take(self) -> Captured | None:
        """The newest frame, or None; each is taken once."""
        with self._changed:
            held, self._held = self._held, None
            self._changed.notify_all()
        if held is not None and self._keep_all:  # a file's frame does not age while it waits
            return replace(held, captured_ns=time.monotonic_ns())
        return held

    def close(self) -> None:
        """Let go whoever waits in `put`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
