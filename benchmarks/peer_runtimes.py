"""What else could run a model, on the same frames in the same run: every network in turn.

Ours is the detector as it is shipped. Frames come to the others through the same pre-processing,
and their heads go through our decoder and through the official-style loops, so that one run tells
the network, the decoder and both together apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.official_style import official_style
from benchmarks.peer_networks import PEERS, MissingError, Network, Subject
from benchmarks.stopwatch import TimedDetector
from trt_lane.artifact import EngineArtifact
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import head_errors
from trt_lane.fit import Fit, fit_frame
from trt_lane.lanes import LaneSet
from trt_lane.metrics.bootstrap import drawn_frames, interval

OURS = "ours, INT8"
ROUND_FRAMES = 8
WARM_UP = 2
# Mean square of the heads' difference, relative; FP32 in another order of sums gives 1e-10.
SAME_WEIGHTS = 1e-6


@dataclass(frozen=True, eq=False)
class PeerTimes:
    """Milliseconds of one network: (rounds, frames) of each part."""

    name: str
    before: np.ndarray
    network: np.ndarray
    decoder: np.ndarray
    loops: np.ndarray | None

    def total(self, loops: bool) -> np.ndarray:
        """From frame to lanes, with our decoder or with the official-style loops."""
        after = self.loops if loops else self.decoder
        return self.before + self.network + after


@dataclass(frozen=True, eq=False)
class PeerRun:
    """Times and lanes of all networks on the same frames; why the others could not run."""

    times: dict[str, PeerTimes]
    lanes: dict[str, list[LaneSet]]
    missing: dict[str, str]


def run_peers(
    subject: Subject, frames: Sequence[np.ndarray], rounds: int, names: Sequence[str] | None = None
) -> PeerRun:
    """Time every network that is installed, in rounds that begin with another one each.

    Args:
        subject: what to run.
        frames: BGR uint8; the first ROUND_FRAMES are timed, all are decoded for the score.
        rounds: of each network.
        names: of PEERS; None for all.
    """
    check_names(names)
    if not frames or rounds < 2:
        raise TrtLaneError(f"{len(frames)} frames, {rounds} rounds; expected 1 and 2 or more")
    missing = {}
    with ExitStack() as stack:
        detector = stack.enter_context(TimedDetector.open(subject.artifact, subject.threads))
        networks: dict[str, Network] = {}
        for name, opened in PEERS.items():
            if names is not None and name not in names:
                continue
            try:
                networks[name] = stack.enter_context(opened(subject))
            except MissingError as reason:
                missing[name] = str(reason)
        check_weights(networks, _prepared(frames[0], subject.artifact)[1])
        decoder = subject.artifact.make_decoder()
        ways: dict[str, Callable[[np.ndarray], list[float]]] = {OURS: _ours(detector)}
        ways |= {name: _other(network, subject, decoder) for name, network in networks.items()}
        times = _time(ways, frames[:ROUND_FRAMES], rounds)
        lanes: dict[str, list[LaneSet]] = {name: [] for name in ways}
        for frame in frames:
            lanes[OURS].append(detector.detect(frame))
            fitted, image = _prepared(frame, subject.artifact)
            for name, network in networks.items():
                lanes[name].append(fitted.to_original(decoder(**network(image))))
    return PeerRun(times, lanes, missing)


def check_names(names: Sequence[str] | None) -> None:
    """Refuse a peer that there is not."""
    unknown = sorted(set(names or ()) - set(PEERS))
    if unknown:
        raise TrtLaneError(f"no peer {unknown[0]!r}; known peers: {', '.join(PEERS)}")


def ratio(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """How many times as long theirs takes, with its 95 % interval over rounds (frames, paired)."""
    per_round = np.median(theirs, axis=1) / np.median(ours, axis=1)
    drawn = drawn_frames(len(per_round))
    return (float(np.median(per_round)), *interval(np.median(per_round[drawn], axis=1)))


def check_weights(networks: dict[str, Network], image: np.ndarray) -> None:
    """Refuse a checkpoint that is not the one the float graph came from."""
    if "PyTorch eager" not in networks or "ONNX Runtime float" not in networks:
        return
    torch_heads = networks["PyTorch eager"](image)
    onnx_heads = networks["ONNX Runtime float"](image)
    try:
        errors = head_errors({k: torch_heads[k] for k in onnx_heads}, onnx_heads)
        worst = max(errors.values())
    except (KeyError, ValueError):  # other heads, or other shapes of them
        worst = float("inf")
    if not worst < SAME_WEIGHTS:
        raise TrtLaneError(
            "PyTorch's heads are not the float graph's: the checkpoint changed since; run make "
            "engine again, or say with --weights which checkpoint the graph came from"
        )


def _time(
    ways: dict[str, Callable[[np.ndarray], list[float]]],
    frames: Sequence[np.ndarray],
    rounds: int,
) -> dict[str, PeerTimes]:
    parts: dict[str, list[list[list[float]]]] = {name: [] for name in ways}
    order = list(ways)
    for number in range(rounds):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            for place in range(WARM_UP):
                ways[name](frames[place % len(frames)])
            parts[name].append([ways[name](frame) for frame in frames])
    found = {}
    for name, values in parts.items():
        array = np.array(values)  # (rounds, frames, 3 or 4)
        last = array[..., 3] if array.shape[-1] > 3 else None
        found[name] = PeerTimes(name, array[..., 0], array[..., 1], array[..., 2], last)
    return found


def _ours(detector: TimedDetector) -> Callable[[np.ndarray], list[float]]:
    """Milliseconds before, in and after the network, of the detector as it is shipped."""

    def times(frame: np.ndarray) -> list[float]:
        detector.detect(frame)
        return detector.rows[-1][:3]

    return times


def _other(network: Network, subject: Subject, decoder: Any) -> Callable[[np.ndarray], list[float]]:
    """Milliseconds of pre-processing, network, our decoder and, where there are any, the loops."""
    loops = official_style(decoder)

    def times(frame: np.ndarray) -> list[float]:
        stamps = [time.perf_counter()]
        fitted, image = _prepared(frame, subject.artifact)
        stamps.append(time.perf_counter())
        heads = network(image)
        stamps.append(time.perf_counter())
        fitted.to_original(decoder(**heads))
        stamps.append(time.perf_counter())
        if loops is not None:
            loops(**heads)
            stamps.append(time.perf_counter())
        return [1e3 * step for step in np.diff(stamps)]

    return times


def _prepared(frame: np.ndarray, artifact: EngineArtifact) -> tuple[Any, np.ndarray]:
    fitted = fit_frame(frame, artifact.image, Fit.CROP)
    return fitted, artifact.image.to_tensor(fitted.frame)[None]
