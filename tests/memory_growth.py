"""Resident memory over many calls."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def resident_bytes() -> int:
    """Of this process, in steps of a page."""
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("memory is read from /proc, which only Linux has")
    return int(status.read_text().split()[1]) * 4096


def growth_per_frame(call: Callable[[np.ndarray], object], frame: np.ndarray, frames: int) -> float:
    """Bytes by which memory grows per call: the median of what the windows add to the one before.

    The first window warms allocators up; a minimum does not see what is only held for a while, and
    the median no single step of an allocator's, which a leak is not.
    """
    lows, window = [], frames // 5
    for _ in range(5):
        low = None
        for i in range(window):
            call(frame)
            if i % 25 == 0:
                gc.collect(0)
                now = resident_bytes()
                low = now if low is None else min(low, now)
        lows.append(low)
    return float(np.median(np.diff(lows[1:]))) / window
