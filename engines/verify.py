"""Proof that an engine is right: float, fake-quantised, ONNX and engine side by side.

A deep quantised network is chaotic: a difference of 1e-6 in its input can flip roundings all the
way through. So forms are compared by error statistics (how far the ONNX is from the simulation,
against how far the simulation is from float) and by decoded lanes, never by closeness of outputs.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from engines.card import ModelCard, read_card, read_onnx
from engines.graph_runner import GraphRunner
from trt_lane.artifact import EngineArtifact
from trt_lane.datasets.base import Dataset
from trt_lane.decoders import decoder_from_dict
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import Comparison, Network, compare, head_errors, lanes_of
from trt_lane.files import sha256_file
from trt_lane.lanes import LaneSet
from trt_lane.metrics.report import DatasetScore, score_labels

# Two independent errors of one power are twice that power apart: in the worst case rounding flips
# make the graph's error and the simulation's independent. Measured on real frames: up to 1.4 in
# FP16, 0.3 in FP32; a graph of wrong scales is farther from the simulation than that by orders.
DRIFT_LIMIT = 2.0
# A head that nothing quantised leads to differs by the rounding of FP16 alone (measured: 6e-8).
FP16_NOISE = 1e-6


@dataclass(frozen=True, eq=False)
class Form:
    """One form of the network on the data: its lanes, its score, its distance from float."""

    lanes: list[LaneSet]
    score: DatasetScore | None
    comparison: Comparison


@dataclass(frozen=True, eq=False)
class Verification:
    """What was measured.

    Attributes:
        card: the model.
        frames: indices of the frames that were used.
        forms: "float", "int8" (the Q/DQ graph as written) and "engine" where it runs here.
        noise: per head the simulation's error against float (mean square, relative).
        drift: per head the Q/DQ graph's error against the simulation, over `noise`.
    """

    card: ModelCard
    frames: list[int]
    forms: dict[str, Form]
    noise: dict[str, float]
    drift: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether the Q/DQ graph is the calibrated network."""
        return all(value <= DRIFT_LIMIT for value in self.drift.values())


def verify(
    float_onnx: Path,
    int8_onnx: Path,
    dataset: Dataset,
    frames: Sequence[int],
    reference: Path | None = None,
    artifact: EngineArtifact | None = None,
    progress: object = None,
) -> Verification:
    """Compare all forms that can run on this machine.

    Args:
        float_onnx: FP32 graph of the same weights.
        int8_onnx: typed Q/DQ graph.
        dataset: frames, and labels if it has them.
        frames: indices into the data set.
        reference: heads of the fake-quantised network from calibration.
        artifact: built of `int8_onnx`; used when its runtime is on this machine.
        progress: wraps the frames with a bar.
    """
    card = read_card(read_onnx(int8_onnx))
    if card is None:
        raise TrtLaneError(f"{int8_onnx} was not written by `python -m engines export`")
    if artifact is not None and artifact.digests.get("onnx") != sha256_file(int8_onnx):
        raise TrtLaneError(
            f"{artifact.engine_path} was not built of {int8_onnx} as it is now; build it again"
        )
    exact = GraphRunner(int8_onnx)
    networks: dict[str, Network] = {"float": GraphRunner(float_onnx), "int8": exact}
    backend = None if artifact is None else _backend(artifact)
    if backend is not None:
        networks["engine"] = lambda image: {k: v[None] for k, v in backend.infer(image).items()}
    try:
        lanes, labels = lanes_of(
            networks,
            card.image,
            decoder_from_dict(card.decoder),
            dataset,
            progress(frames) if progress else frames,
        )
    finally:
        if backend is not None:
            backend.close()
    forms = {}
    for name, found in lanes.items():
        score = score_labels(dataset.metric, labels, found) if dataset.metric else None
        forms[name] = Form(found, score, compare(found, lanes["float"]))
    noise, drift = _drift(exact, reference) if reference else ({}, {})
    return Verification(card, list(frames), forms, noise, drift)


def _backend(artifact: EngineArtifact) -> object | None:
    """The engine, where its runtime is the CPU's or a GPU is here; else None."""
    from engines.target import BuilderKind, gpu_is_visible
    from trt_lane.backends import open_backend

    if artifact.runtime != BuilderKind.ONNXRUNTIME.value and not gpu_is_visible():
        return None
    return open_backend(artifact)


def _drift(network: Network, reference: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Simulation against float, and the graph against the simulation in units of that."""
    arrays = _read_reference(reference)
    runs = [network(image[None]) for image in arrays.pop("image")]
    heads = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    simulated = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith("quantised/")}
    floats = {k.partition("/")[2]: v for k, v in arrays.items() if k.startswith("float/")}
    noise = head_errors(simulated, floats)
    distance = head_errors(heads, simulated)
    return noise, {name: distance[name] / max(noise[name], FP16_NOISE) for name in noise}


def _read_reference(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise TrtLaneError(f"no reference {path}; run: python -m calibrators --reference") from None
    except (OSError, ValueError, EOFError, AttributeError, BadZipFile, zlib.error) as error:
        raise TrtLaneError(f"{path} is no whole reference ({error}); calibrate again") from None
    if "image" not in arrays:
        raise TrtLaneError(f"{path} holds no image; expected reference.npz from calibrators")
    return arrays
