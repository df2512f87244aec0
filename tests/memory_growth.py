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
    """Bytes by which memory grows per call, from the smallest values of two late windows.

    The first third warms allocators up; a minimum does not see what is only held for a while.
    """
    lows = []
    for third in range(3):
        low = None
        for i in range(frames // 3):
            call(frame)
            if i % 25 == 0:
                gc.collect(0)
                now = resident_bytes()
                low = now if low is None else min(low, now)
        if third:
            lows.append(low)
    return (lows[1] - lows[0]) / (frames / 3)
