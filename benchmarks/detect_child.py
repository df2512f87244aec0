"""In a process of its own, with the code that PYTHONPATH names: frames in, lanes out.

Run as a file and not as a module, so that another checkout's detector answers, whatever its own
benchmarks are. Frames come as a line of JSON (their shape) and their bytes, lanes go as a line.
"""

import json
import os
import sys

import numpy as np


def main(folder: str, threads: int) -> None:
    """Answer every frame until there are no more."""
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from trt_lane.detector import LaneDetector
    from trt_lane.fit import Fit

    with LaneDetector.load(folder, threads=threads, fit=Fit.CROP) as detector:
        while line := sys.stdin.buffer.readline():
            shape = json.loads(line)
            data = sys.stdin.buffer.read(int(np.prod(shape)))
            lanes = detector.detect(np.frombuffer(data, np.uint8).reshape(shape))
            values = (lanes.points.tolist(), lanes.scores.tolist(), lanes.frame_hw)
            answers.write(json.dumps(values).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
