"""What else could run a model, on the same frames in the same run: every network in turn.

Frames come to all networks through the same pre-processing, and every network's heads go through
our decoder and through the official-style loops, so that one run tells the network, the decoder and
both together apart.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bootstrap import drawn_frames, interval
from benchmarks.official_style import official_style
from trt_lane.artifact import EngineArtifact
from trt_lane.backends import open_backend
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import head_errors
from trt_lane.fit import Fit, fit_frame
from trt_lane.lanes import LaneSet

OURS = "ours, INT8"
ROUND_FRAMES = 8
WARM_UP = 2
# Mean square of the heads' difference, relative; FP32 in another order of sums gives 1e-10.
SAME_WEIGHTS = 1e-6
Heads = dict[str, np.ndarray]
Network = Callable[[np.ndarray], Heads]


@dataclass(frozen=True)
class Subject:
    """What all peers run.

    Attributes:
        artifact: our engine.
        float_onnx: FP32 graph of the same weights.
        weights: the checkpoint; None for the bundled one.
        threads: of every runtime.
        calibration: network inputs float32 (F, 3, h, w) for ONNX Runtime's own INT8.
    """

    artifact: EngineArtifact
    float_onnx: Path
    weights: Path | None
    threads: int
    calibration: np.ndarray


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
    unknown = sorted(set(names or ()) - set(PEERS))
    if unknown:
        raise TrtLaneError(f"no peer {unknown[0]!r}; known peers: {', '.join(PEERS)}")
    if not frames or rounds < 2:
        raise TrtLaneError(f"{len(frames)} frames, {rounds} rounds; expected 1 and 2 or more")
    missing = {}
    with ExitStack() as stack:
        networks = {OURS: stack.enter_context(_ours(subject))}
        for name, opened in PEERS.items():
            if names is not None and name not in names:
                continue
            try:
                networks[name] = stack.enter_context(opened(subject))
            except _MissingError as reason:
                missing[name] = str(reason)
        check_weights(networks, _prepared(frames[0], subject.artifact)[1])
        decoder = subject.artifact.make_decoder()
        times = _time(networks, subject, decoder, frames[:ROUND_FRAMES], rounds)
        lanes: dict[str, list[LaneSet]] = {name: [] for name in networks}
        for frame in frames:
            fitted, image = _prepared(frame, subject.artifact)
            for name, network in networks.items():
                lanes[name].append(fitted.to_original(decoder(**network(image))))
    return PeerRun(times, lanes, missing)


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
    networks: dict[str, Network],
    subject: Subject,
    decoder: Any,
    frames: Sequence[np.ndarray],
    rounds: int,
) -> dict[str, PeerTimes]:
    loops = official_style(decoder)
    parts: dict[str, list[list[list[float]]]] = {name: [] for name in networks}
    order = list(networks)
    for number in range(rounds):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            network, rows = networks[name], []
            for place in range(-WARM_UP, len(frames)):
                row = _one(network, subject.artifact, decoder, loops, frames[place % len(frames)])
                if place >= 0:
                    rows.append(row)
            parts[name].append(rows)
    found = {}
    for name, values in parts.items():
        array = np.array(values)  # (rounds, frames, 4)
        last = array[..., 3] if loops is not None else None
        found[name] = PeerTimes(name, array[..., 0], array[..., 1], array[..., 2], last)
    return found


def _one(
    network: Network,
    artifact: EngineArtifact,
    decoder: Any,
    loops: Callable[..., Any] | None,
    frame: np.ndarray,
) -> list[float]:
    stamps = [time.perf_counter()]
    fitted, image = _prepared(frame, artifact)
    stamps.append(time.perf_counter())
    heads = network(image)
    stamps.append(time.perf_counter())
    fitted.to_original(decoder(**heads))
    stamps.append(time.perf_counter())
    if loops is not None:
        loops(**heads)
    stamps.append(time.perf_counter())
    return [1e3 * step for step in np.diff(stamps)]


def _prepared(frame: np.ndarray, artifact: EngineArtifact) -> tuple[Any, np.ndarray]:
    fitted = fit_frame(frame, artifact.image, Fit.CROP)
    return fitted, artifact.image.to_tensor(fitted.frame)[None]


class _MissingError(Exception):
    """A peer that is not installed or cannot run here."""


@contextmanager
def _ours(subject: Subject) -> Iterator[Network]:
    backend = open_backend(subject.artifact, subject.threads)
    try:
        yield backend.infer
    finally:
        backend.close()


@contextmanager
def _torch_eager(subject: Subject) -> Iterator[Network]:
    yield _torch_network(subject, compiled=False)


@contextmanager
def _torch_compile(subject: Subject) -> Iterator[Network]:
    yield _torch_network(subject, compiled=True)


def _torch_network(subject: Subject, compiled: bool) -> Network:
    _needs("torch", "pip install torch")
    import torch

    from trt_lane.model import get_model
    from trt_lane.models._checkpoint import bundled_weights, load_weights

    torch.set_num_threads(subject.threads)
    model = get_model(subject.artifact.model)
    module = model.build()
    load_weights(model, module, subject.weights or bundled_weights(model))
    run = torch.compile(module) if compiled else module

    def network(image: np.ndarray) -> Heads:
        with torch.inference_mode():
            heads = run(torch.from_numpy(image))
        return {name: head[0].float().numpy() for name, head in heads.items()}

    if compiled:
        try:
            network(np.zeros((1, 3, *model.image.input_hw), np.float32))
        except Exception as error:  # its compilers fail in many ways, a missing g++ among them
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise _MissingError(f"torch.compile fails here: {first[:200]}") from None
    return network


@contextmanager
def _onnxruntime_float(subject: Subject) -> Iterator[Network]:
    yield _session(subject.float_onnx, subject)


@contextmanager
def _onnxruntime_int8(subject: Subject) -> Iterator[Network]:
    _needs("onnx", "pip install onnx")
    from benchmarks.peers.onnxruntime_peer import quantise_for_speed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantise_for_speed(subject.float_onnx, subject.calibration, path)
        yield _session(path, subject)


def _session(path: Path, subject: Subject) -> Network:
    """With ONNX Runtime's own settings, but for the number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = subject.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    def network(image: np.ndarray) -> Heads:
        found = session.run(names, {source: image})
        return {name: head[0] for name, head in zip(names, found, strict=True)}

    return network


@contextmanager
def _openvino(subject: Subject) -> Iterator[Network]:
    _needs("openvino", "pip install --editable '.[peers]'")
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(str(subject.float_onnx)),
        "CPU",
        {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": subject.threads},
    )
    outputs = {output.get_any_name(): output for output in compiled.outputs}
    request = compiled.create_infer_request()

    def network(image: np.ndarray) -> Heads:
        found = request.infer([image])
        return {name: np.array(found[output][0]) for name, output in outputs.items()}

    yield network


PEERS: dict[str, Callable[[Subject], Any]] = {
    "PyTorch eager": _torch_eager,
    "torch.compile": _torch_compile,
    "ONNX Runtime float": _onnxruntime_float,
    "ONNX Runtime INT8": _onnxruntime_int8,
    "OpenVINO float": _openvino,
}


def _needs(module: str, advice: str) -> None:
    if find_spec(module) is None:
        raise _MissingError(f"{module} is not installed; run: {advice}")
