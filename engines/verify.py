"""Proof that an engine is right: float, fake-quantised, ONNX and engine side by side.

A deep quantised network is chaotic: a difference of 1e-6 in its input can flip roundings all the
way through. So forms are compared by decoded lanes and by error statistics (how far the ONNX is
from the simulation, against how far the simulation is from float), and whether the graph is the
calibrated network is judged from one quantised tensor to the next (engines.graph_check).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from engines.card import ModelCard, check_outputs, read_card, read_onnx
from engines.graph_check import GraphCheck, check_graph, part
from engines.graph_runner import GraphRunner
from engines.macs import count_macs, quantised_share
from trt_lane.artifact import EngineArtifact
from trt_lane.datasets.base import Dataset
from trt_lane.decoders import decoder_from_dict
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import Comparison, Network, compare, head_errors, lanes_of
from trt_lane.files import sha256_file
from trt_lane.lanes import LaneSet
from trt_lane.metrics.mask_iou import MaskIou, has_mask
from trt_lane.metrics.report import DatasetScore, score_labels

REFERENCE_SCHEMA = 3  # as calibrators.reference writes it
# Less than the rounding of FP16 makes of a head that nothing quantised leads to (measured: 6e-8).
FP16_NOISE = 1e-6


@dataclass(frozen=True, eq=False)
class Form:
    """One form of the network on the data: its lanes, its score, its distance from float.

    `mask_iou` is that of its lane pixels with float's, None where the decoder reads no mask.
    """

    lanes: list[LaneSet]
    score: DatasetScore | None
    comparison: Comparison
    mask_iou: float | None = None


@dataclass(frozen=True, eq=False)
class Verification:
    """What was measured.

    Attributes:
        card: the model.
        frames: indices of the frames that were used.
        forms: "float", "int8" (the Q/DQ graph as written) and "engine" where it runs here.
        noise: per head the simulation's error against float (mean square, relative).
        drift: per head the Q/DQ graph's error against the simulation, over `noise`. Rounding flips
            make the two errors independent in the worst case, so up to 2 says nothing; measured up
            to 1.4.
        quantised_share: share of the weighted layers' MACs that the Q/DQ graph quantises.
        checks: of the graph's stretches, in FP32 and as it is typed; empty without a reference.
    """

    card: ModelCard
    frames: list[int]
    forms: dict[str, Form]
    noise: dict[str, float]
    drift: dict[str, float]
    quantised_share: float
    checks: tuple[GraphCheck, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the Q/DQ graph is the calibrated network."""
        return not any(check.faults for check in self.checks)


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
    graph = read_onnx(int8_onnx)
    card = read_card(graph)
    if card is None:
        raise TrtLaneError(f"{int8_onnx} was not written by `python -m engines export`")
    if check_outputs(graph, card) != 1:
        raise TrtLaneError(f"{int8_onnx} takes several frames at once; verify one of batch 1")
    if artifact is not None and artifact.digests.get("onnx") != sha256_file(int8_onnx):
        raise TrtLaneError(
            f"{artifact.engine_path} was not built of {int8_onnx} as it is now; build it again"
        )
    noise, drift, checks = {}, {}, ()
    exact = GraphRunner(int8_onnx)
    if reference is not None:
        arrays = _read_reference(reference)
        noise, drift = _drift(exact, arrays)
        checks = check_graph(graph, card, arrays, read_onnx(float_onnx))
    networks: dict[str, Network] = {"float": GraphRunner(float_onnx), "int8": exact}
    decoder = decoder_from_dict(card.decoder)
    masks = MaskIou(decoder, "float") if has_mask(decoder) else None
    backend = None if artifact is None else _backend(artifact)
    if backend is not None:
        networks["engine"] = lambda image: {k: v[None] for k, v in backend.infer(image).items()}
    try:
        lanes, labels = lanes_of(
            networks,
            card.image,
            decoder,
            dataset,
            progress(frames) if progress else frames,
            None if masks is None else masks.add,
        )
    finally:
        if backend is not None:
            backend.close()
    forms = {}
    for name, found in lanes.items():
        score = score_labels(dataset.metric, labels, found) if dataset.metric else None
        iou = None if masks is None else masks.of(name)
        forms[name] = Form(found, score, compare(found, lanes["float"]), iou)
    share = quantised_share(count_macs(graph))
    return Verification(card, list(frames), forms, noise, drift, share, checks)


def _backend(artifact: EngineArtifact) -> object | None:
    """The engine, where its runtime is the CPU's or a GPU is here; else None."""
    from engines.target import BuilderKind, gpu_is_visible
    from trt_lane.backends import open_backend

    if artifact.runtime != BuilderKind.ONNXRUNTIME.value and not gpu_is_visible():
        return None
    return open_backend(artifact)


def _drift(
    network: Network, reference: dict[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, float]]:
    """Simulation against float, and the graph against the simulation in units of that."""
    runs = [network(image[None]) for image in reference["image"]]
    heads = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
    simulated = part(reference, "quantised")
    noise = head_errors(simulated, part(reference, "float"))
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
    if arrays.pop("schema", None) != REFERENCE_SCHEMA:
        raise TrtLaneError(f"{path} is of another version of trt_lane; calibrate again")
    return arrays
