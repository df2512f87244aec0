"""Watchdog: a run that hangs ends, so that whoever started it starts it again."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

# Not one of a user's mistakes (2) nor of a failed check (1).
HUNG_STATUS = 70
NOTIFY_S = 1.0


class Watchdog:
    """Ends the process when nobody calls `beat` for so long; tells systemd each time.

    A call that hangs inside a driver cannot be interrupted, only left behind with the process.

    Args:
        limit_s: longest silence, 0 for no limit.
        log: told in one line before the end.
        end: what ends the process.
    """

    def __init__(
        self, limit_s: float, log: Callable[[str], None], end: Callable[[int], None] = os._exit
    ) -> None:
        self._limit_s, self._log, self._end = limit_s, log, end
        self._last = time.monotonic()
        self._told = -NOTIFY_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """The loop is alive."""
        self._last = time.monotonic()
        if self._last - self._told >= NOTIFY_S:
            self._told = self._last
            notify("WATCHDOG=1")

    def __enter__(self) -> Watchdog:
        self._last = time.monotonic()
        if self._limit_s:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1)

    def _watch(self) -> None:
        while not self._stop.wait(min(0.5, self._limit_s / 4)):
            silent_s = time.monotonic() - self._last
            if silent_s > self._limit_s:
                self._log(f"watchdog: nothing moved for {silent_s:.1f} s; ending")
                self._end(HUNG_STATUS)
                return


def notify(message: str, address: str | None = None) -> bool:
    """Tell systemd (sd_notify) READY=1, WATCHDOG=1, STOPPING=1 or STATUS=…; False without one."""
    address = os.environ.get("NOTIFY_SOCKET") if address is None else address
    if not address or address[0] not in "/@":
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect("\0" + address[1:] if address[0] == "@" else address)
            channel.send(message.encode())
    except OSError:  # nobody listens: no reason to stop looking for lanes
        return False
    return True
