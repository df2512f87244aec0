"""The networks that ours is measured beside: PyTorch's, ONNX Runtime's and OpenVINO's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from trt_lane.artifact import EngineArtifact

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


class MissingError(Exception):
    """A peer that is not installed or cannot run here."""


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
            raise MissingError(f"torch.compile fails here: {first[:200]}") from None
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
        raise MissingError(f"{module} is not installed; run: {advice}")
