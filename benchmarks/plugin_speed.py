"""Compiled decoders and pre-processing against numpy and OpenCV, in turn, on one core.

Heads are those of tests/plugins/cases.py, so what is timed is what is proven to be right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.bootstrap import drawn_frames, interval
from trt_lane.compiled_preprocess import CompiledPreprocess
from trt_lane.decoders import decoder_to_dict
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec
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
    """Seconds of one call in every round, numpy's and the compiled code's in turn.

    Attributes:
        name: what was called.
        numpy_s, compiled_s: (rounds,).
    """

    name: str
    numpy_s: np.ndarray
    compiled_s: np.ndarray

    def to_dict(self) -> dict:
        """Medians, and how many times as fast with its 95 % interval."""
        drawn = drawn_frames(len(self.numpy_s))  # the same rounds for both
        draws = np.median(self.numpy_s[drawn], axis=1) / np.median(self.compiled_s[drawn], axis=1)
        slow, fast = float(np.median(self.numpy_s)), float(np.median(self.compiled_s))
        low, high = interval(draws)
        return {
            "name": self.name,
            "numpy_ms": 1e3 * slow,
            "compiled_ms": 1e3 * fast,
            "times_as_fast": {"value": slow / fast, "low": low, "high": high},
        }


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
    return _in_turn(
        name, lambda: case.decoder(**case.heads), lambda: compiled(**case.heads), rounds
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
    name: str, by_numpy: Callable[[], object], compiled: Callable[[], object], rounds: int
) -> Speed:
    calls = [_calls_per_round(f) for f in (by_numpy, compiled)]
    times = np.empty((rounds, 2))
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)  # neither always finds the caches of the other
        for which in order:
            times[number, which] = _seconds((by_numpy, compiled)[which], calls[which])
    return Speed(name, times[:, 0], times[:, 1])


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
