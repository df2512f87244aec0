"""Compiled decoders and pre-processing against numpy, OpenCV and loops as official code has them.

All in turn, on one core.

Heads are those of tests/plugins/cases.py, so what is timed is what is proven to be right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from benchmarks.official_style import official_style
from trt_lane.compiled_preprocess import CompiledPreprocess
from trt_lane.decoders import decoder_to_dict
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec
from trt_lane.metrics.bootstrap import drawn_frames, interval
from trt_lane.plugin_library import PluginLibrary

CASES = Path(__file__).resolve().parents[1] / "tests" / "plugins"
# A case of this name, or one that begins with it, has the sizes of an official network.
TIMED = ("typical", "full_size")
SPECS = {
    "590x1640 to 288x800": ImageSpec((590, 1640), (288, 800)),
    "590x1640 cut to 128x512": ImageSpec((590, 1640), (128, 512), crop_top=190),
    "720x1280 to 288x800": ImageSpec((720, 1280), (288, 800)),
    "720x1280 to 360x640": ImageSpec((720, 1280), (360, 640)),
    "1080x1920 to 360x640": ImageSpec((1080, 1920), (360, 640)),
    "590x1640 to 288x800 antialiased": ImageSpec((590, 1640), (288, 800), resampling="antialiased"),
}
# A round is as many calls as take this long, so that the clock's own steps do not show.
ROUND_S = 0.01
MOST_CALLS = 1000


@dataclass(frozen=True, eq=False)
class Speed:
    """Seconds of one call in every round, numpy's, the compiled code's and the loops' in turn.

    Attributes:
        name: what was called.
        numpy_s, compiled_s: (rounds,).
        official_s: likewise, of post-processing in the official style; None where nobody wrote it.
    """

    name: str
    numpy_s: np.ndarray
    compiled_s: np.ndarray
    official_s: np.ndarray | None = None

    def to_dict(self) -> dict:
        """Medians, and how many times as fast with its 95 % interval."""
        row = {
            "name": self.name,
            "numpy_ms": 1e3 * float(np.median(self.numpy_s)),
            "compiled_ms": 1e3 * float(np.median(self.compiled_s)),
            "times_as_fast": self._times_as_fast(self.numpy_s),
        }
        if self.official_s is not None:
            row["official_style_ms"] = 1e3 * float(np.median(self.official_s))
            row["times_as_fast_as_official_style"] = self._times_as_fast(self.official_s)
        return row

    def _times_as_fast(self, other_s: np.ndarray) -> dict[str, float]:
        drawn = drawn_frames(len(other_s))  # the same rounds for both
        draws = np.median(other_s[drawn], axis=1) / np.median(self.compiled_s[drawn], axis=1)
        low, high = interval(draws)
        value = float(np.median(other_s) / np.median(self.compiled_s))
        return {"value": value, "low": low, "high": high}


def speeds(library: PluginLibrary, rounds: int) -> Iterator[Speed]:
    """Every decoder's timed cases, then pre-processing at the sizes of cameras.

    Raises:
        TrtLaneError: the project's tests, which hold the cases, are not here.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for case in _cases():
            if case.plugin in library.decoders and case.name.startswith(TIMED):
                yield decoder_speed(library, case, rounds)
        for name, image in SPECS.items():
            yield preprocess_speed(library, name, image, rounds)
    finally:
        cv2.setNumThreads(threads)


def decoder_speed(library: PluginLibrary, case: object, rounds: int) -> Speed:
    """A decoder on the heads of a case."""
    numbers = decoder_to_dict(case.decoder)
    compiled = library.make(numbers, case.head_shapes(), **case.more)
    name = f"{case.plugin} {case.name}"
    loops = official_style(case.decoder) if find_spec("torch") else None  # theirs call torch
    return _in_turn(
        name,
        lambda: case.decoder(**case.heads),
        lambda: compiled(**case.heads),
        rounds,
        loops and (lambda: loops(**case.heads)),
    )


def preprocess_speed(library: PluginLibrary, name: str, image: ImageSpec, rounds: int) -> Speed:
    """Frame to network input; the frame is noise, which costs what any other costs."""
    frame = np.random.default_rng(0).integers(0, 256, (*image.frame_hw, 3), np.uint8)
    compiled = CompiledPreprocess(library, image)
    out = np.empty((1, *compiled.input_shape), np.float32)
    place = out[0]

    def by_opencv() -> None:
        place[:] = image.to_tensor(frame)  # as LaneDetector fills its input

    return _in_turn(f"preprocess {name}", by_opencv, lambda: compiled([frame], out), rounds)


def _in_turn(
    name: str,
    by_numpy: Callable[[], object],
    compiled: Callable[[], object],
    rounds: int,
    official: Callable[[], object] | None = None,
) -> Speed:
    functions = [by_numpy, compiled, *([official] if official else [])]
    calls = [_calls_per_round(f) for f in functions]
    times = np.empty((rounds, len(functions)))
    for number in range(rounds):
        order = range(len(functions))  # none always finds the caches of the same other
        for which in order if number % 2 else reversed(order):
            times[number, which] = _seconds(functions[which], calls[which])
    return Speed(name, *times.T)


def _calls_per_round(function: Callable[[], object]) -> int:
    _seconds(function, 3)
    return int(np.clip(ROUND_S / _seconds(function, 3), 1, MOST_CALLS))


def _seconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def _cases() -> tuple:
    if not (CASES / "cases.py").is_file():
        raise TrtLaneError(f"no cases in {CASES}; expected the project's tests beside it")
    if str(CASES) not in sys.path:
        sys.path.append(str(CASES))
    from cases import all_cases

    return all_cases()
