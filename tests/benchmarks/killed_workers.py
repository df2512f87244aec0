"""Calls that kill the worker they run in, once or always; a module, so that workers import it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any


def square(number: int) -> int:
    return number * number


def square_killed_once(marker: str, number: int) -> int:
    """The first call with number 3 dies with its worker."""
    if number == 3 and _first(marker):
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def square_killed_always(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def refused(number: int) -> int:
    from trt_lane.errors import TrtLaneError

    if number == 1:
        raise TrtLaneError("no such\nframe")
    return number


def scored_killed_once(marker: str, *call: Any) -> dict[str, Any]:
    """Score a shard; the first call for frames from 2 on dies with its worker."""
    from benchmarks.sweep.tasks import score_shard

    if call[2] == 2 and _first(marker):
        os.kill(os.getpid(), signal.SIGKILL)
    return score_shard(*call)


def _first(marker: str) -> bool:
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def first_at_once_others_for_a_minute(folder, number):
    """Holds a file while it works, as tasks hold their temporary folders."""
    if number == 0:
        return 0
    with tempfile.TemporaryDirectory(dir=folder) as held:
        (Path(held) / "begun").touch()
        time.sleep(60)
    return number
