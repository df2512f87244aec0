"""A progress bar with the time left, for people at a terminal; silent everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

BAR_CELLS = 28
REDRAW_S = 0.1


def progress(
    items: Iterable[T], total: int, what: str | Callable[[], str], stream: TextIO | None = None
) -> Iterator[T]:
    """Pass items on, drawing a bar on `stream` (stderr) if that is a terminal.

    Args:
        items: what to go through.
        total: how many there are.
        what: a word or two in front of the bar, or a function that gives them anew each time.
        stream: where to draw.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield from items
        return
    start, drawn_at = time.monotonic(), 0.0
    try:
        for done, item in enumerate(items):
            now = time.monotonic()
            if now - drawn_at >= REDRAW_S:
                drawn_at = now
                label = what if isinstance(what, str) else what()
                stream.write("\r" + _line(label, done, total, now - start) + "\x1b[K")
                stream.flush()
            yield item
    finally:
        stream.write("\r\x1b[K")  # the result that follows takes the bar's place
        stream.flush()


def _line(what: str, done: int, total: int, elapsed_s: float) -> str:
    share = min(done / total, 1.0) if total else 1.0
    cells = round(share * BAR_CELLS)
    left = _clock(elapsed_s * (total - done) / done) if done else "--:--"
    bar = "█" * cells + "░" * (BAR_CELLS - cells)
    return f"{what} {bar} {done}/{total}  {left} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


class PhaseBar:
    """Draws what a builder says it does, or the seconds where it says nothing, on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.on = stream.isatty()

    def __call__(self, phase: str, share: float | None, seconds: float) -> None:
        """Draw the phase, the share done in [0, 1] (None: unknown) and the seconds so far."""
        if self.on:
            cells = 0 if share is None else round(share * BAR_CELLS)
            bar = "█" * cells + "░" * (BAR_CELLS - cells)
            self.stream.write(f"\r{phase:24.24} {bar} {seconds:5.0f} s\x1b[K")
            self.stream.flush()

    def __enter__(self) -> PhaseBar:
        return self

    def __exit__(self, *error: object) -> None:
        if self.on:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
