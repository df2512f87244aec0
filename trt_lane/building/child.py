"""Runs the builder's child process, passes its progress on, and says how it died."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trt_lane.building.recipe import BuildRecipe
from trt_lane.errors import TrtLaneError

# (what is being done, share done in [0, 1] or None when the builder does not say, seconds so far)
Progress = Callable[[str, "float | None", float], None]
_LOG_TAIL = 5


def run_builder(job: Path, log: Path, recipe: BuildRecipe, progress: Progress | None) -> dict:
    """Run one job of trt_lane.building.process and wait for it; what it says it has done.

    Raises:
        TrtLaneError: the builder refused the graph, or died: then with the last that it logged.
    """
    start = time.monotonic()
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "trt_lane.building.process", str(job.resolve())],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    stderr: deque[str] = deque(maxlen=_LOG_TAIL)
    reader = threading.Thread(target=lambda: stderr.extend(process.stderr), daemon=True)
    state = _ChildState()
    listener = threading.Thread(target=state.listen, args=(process.stdout,), daemon=True)
    reader.start()
    listener.start()
    try:
        while listener.is_alive():
            # The wait is the ticker: time goes on in the bar while the builder is silent.
            listener.join(0.2)
            if progress is not None:
                progress(state.phase, state.share, time.monotonic() - start)
        process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    reader.join(1)
    if state.done is not None and process.returncode == 0:
        return state.done
    if state.error is not None:
        raise TrtLaneError(state.error)
    raise TrtLaneError(_post_mortem(process.returncode, log, list(stderr), recipe))


class _ChildState:
    """The last that the child said; written by one thread, read by another."""

    def __init__(self) -> None:
        self.phase = "starting the builder"
        self.share: float | None = None
        self.done: dict | None = None
        self.error: str | None = None

    def listen(self, stream: object) -> None:
        for line in stream:
            with suppress(ValueError):  # a builder may print, too
                message = json.loads(line)
                if isinstance(message, dict):
                    self._take(message)

    def _take(self, message: dict) -> None:
        self.done = message.get("done", self.done)
        self.error = message.get("error", self.error)
        if "phase" in message:
            self.phase = message["phase"]
            self.share = message["step"] / max(1, message["steps"])


def _post_mortem(code: int, log: Path, stderr: list[str], recipe: BuildRecipe) -> str:
    if code < 0:
        try:
            how = f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"was killed by signal {-code}"
    else:
        how = f"exited with status {code}"
    tail = stderr
    if log.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        bad = [x for x in lines if x.startswith(("[ERROR]", "[INTERNAL_ERROR]"))]
        tail = (bad or lines)[-_LOG_TAIL:] or stderr
    last = " | ".join(line.strip() for line in tail) or "nothing"
    return (
        f"the builder of {recipe.target} {how}; it last said: {last}. The whole log is {log}; "
        "run python -m engines lint on the ONNX, and free memory if it was killed"
    )
