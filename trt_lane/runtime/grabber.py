"""Grabber: a thread that keeps one source open and its mailbox fresh."""

from __future__ import annotations

import threading
import time

from trt_lane.runtime.backoff import Backoff
from trt_lane.runtime.mailbox import Captured, Mailbox
from trt_lane.runtime.source import Source, SourceSpec

FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0
# What a driver may take to come back from its last read.
DRIVER_S = 2.0


class Grabber:
    """Reads a source until it is stopped; a lost camera is opened again and again.

    Args:
        spec: the source.
        arrived: set with every frame, and when the source has ended.
        keep_all: a file's frames all count; else the newest wins.
        rate_hz: a file is read no faster, 0 for as fast as it goes.
        loop: a file begins anew at its end.
    """

    def __init__(
        self,
        spec: SourceSpec,
        arrived: threading.Event,
        *,
        keep_all: bool = False,
        rate_hz: float = 0.0,
        loop: bool = False,
    ) -> None:
        self.spec = spec
        self.mailbox = Mailbox(arrived, keep_all)
        self.lost = 0
        self.is_lost = False
        self.ended = False
        self._arrived, self._loop = arrived, loop
        self._period_ns = round(1e9 / rate_hz) if rate_hz else 0
        self._stop = threading.Event()
        self._stopped_ns = 0
        # A driver that never returns from a read must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"grab {spec.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin to end; waits for nothing."""
        if not self._stop.is_set():
            self._stop.set()
            self._stopped_ns = time.monotonic_ns()
        self.mailbox.close()

    def stop(self) -> None:
        """End; the driver has DRIVER_S from the first asking on to come back."""
        self.ask_to_stop()
        if self._thread.is_alive():
            asked_s = (time.monotonic_ns() - self._stopped_ns) / 1e9
            self._thread.join(max(0.0, DRIVER_S - asked_s))

    def _run(self) -> None:
        sequence, retry = 0, Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        try:
            while not self._stop.is_set():
                before = sequence
                source = self._open()
                if source is not None:
                    try:
                        sequence = self._read(source, sequence, retry)
                    finally:
                        source.close()
                if self._stop.is_set():
                    return
                if not self.spec.live:
                    if not self._loop or sequence == before:
                        return
                    continue
                self._lose()
                self._stop.wait(retry.next_s())
        finally:
            self.ended = True
            self._arrived.set()

    def _open(self) -> Source | None:
        try:
            return self.spec.open()
        except Exception:  # whatever a driver has to say while its device is unplugged
            return None

    def _read(self, source: Source, sequence: int, retry: Backoff) -> int:
        due_ns = time.monotonic_ns()
        while not self._stop.is_set():
            try:
                frame = source.read()
            except Exception:  # this thread must not end while its camera may come back
                frame = None
            if frame is None:
                return sequence
            self.is_lost = False
            retry.reset()
            self.mailbox.put(Captured(sequence, time.monotonic_ns(), frame))
            sequence += 1
            if self._period_ns:
                due_ns += self._period_ns
                self._stop.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
        return sequence

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.lost += 1
        self._arrived.set()
