"""The detector of another checkout, so that a change of the code is judged by its lanes, too."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import child_environment
from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet

_CHILD = Path(__file__).with_name("detect_child.py")


class OtherCode:
    """LaneDetector.detect of that code, in a process of its own.

    Args:
        code: repository.
        artifact: verified.
        threads: of the CPU runtime.
    """

    def __init__(self, code: Path, artifact: EngineArtifact, threads: int) -> None:
        self._artifact = artifact
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        folder = str(artifact.folder.resolve())
        self._child = subprocess.Popen(
            [sys.executable, str(_CHILD), folder, str(threads)],
            env={**child_environment(), "PYTHONPATH": str(code)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )

    def detect(self, frame: np.ndarray) -> LaneSet:
        """Lanes of a BGR uint8 frame.

        Raises:
            TrtLaneError: the process ended; with the last that it said.
        """
        try:
            self._child.stdin.write(json.dumps(frame.shape).encode() + b"\n")
            self._child.stdin.write(np.ascontiguousarray(frame))
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # why is in what it said
        line = self._child.stdout.readline()
        if not line:
            self._child.wait()
            self._said.seek(0)
            last = self._said.read().decode(errors="replace").strip().splitlines()
            raise TrtLaneError(
                f"the base's code cannot run {self._artifact.folder}: "
                f"{last[-1] if last else f'status {self._child.returncode}'}"
            )
        points, scores, frame_hw = json.loads(line)
        held = np.array(points, np.float32).reshape(len(scores), -1, 2)
        return LaneSet(held, np.array(scores, np.float32), tuple(frame_hw))

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        self._child.communicate()
        self._said.close()
