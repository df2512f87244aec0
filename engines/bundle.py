"""From a typed Q/DQ ONNX to the bundle that a vehicle installs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.card import ModelCard, check_outputs, read_card, read_onnx
from engines.graph_runner import GraphRunner
from engines.target import Target
from trt_lane import __version__
from trt_lane.building.recipe import BuilderKind
from trt_lane.bundle.archive import file_entry, write_bundle
from trt_lane.bundle.golden import GOLDEN, GoldenFrame, GoldenSet
from trt_lane.bundle.manifest import Manifest, Needs
from trt_lane.bundle.signature import sign
from trt_lane.datasets.base import Dataset
from trt_lane.decoders import decoder_from_dict
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import Network, lanes_of
from trt_lane.fit import Fit, fit_frame
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import agreement
from trt_lane.metrics.lane_distortion import lane_distortion_score
from trt_lane.plugin_library import PLUGINS_NAME

GRAPH, CPU_GRAPH, SCALES, LICENCES = "model.onnx", "engine.onnx", "scales.npz", "LICENCES.txt"
GOLDEN_FRAMES = 4
# Looked at for each golden frame that is kept.
CANDIDATES = 4
# Builders hold weights in several forms at once, and TensorRT's own libraries take what they take.
_BUILDER_BYTES = {
    BuilderKind.ONNXRUNTIME: 100 << 20,
    BuilderKind.TENSORRT_RTX: 1 << 30,
    BuilderKind.TENSORRT: 2 << 30,
}


@dataclass(frozen=True)
class Sources:
    """Files that a bundle is made of.

    Attributes:
        onnx: typed Q/DQ graph.
        float_onnx: FP32 graph of the same weights.
        scales: scales.npz.
        cpu_engine: the integer graph of `engines build --target cpu`; for that target only.
        plugin_sources: the project's plugins/, or None.
        plugin_library: compiled for the device, or None.
        licence: of the weights, with their source.
    """

    onnx: Path
    float_onnx: Path
    scales: Path | None
    cpu_engine: Path | None = None
    plugin_sources: Path | None = None
    plugin_library: Path | None = None
    licence: str = ""


def make_bundle(
    out: Path,
    sources: Sources,
    target: Target,
    dataset: Dataset,
    *,
    budget_ms: float | None = None,
    key: Path | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Manifest:
    """Write a bundle.

    Args:
        out: the archive.
        sources: what goes in.
        target: for which device.
        dataset: where golden frames come from; its labels are not read.
        budget_ms: p99 latency that the engine must keep on the device.
        key: private Ed25519 key to sign with.
        progress: wraps the candidate frames with a bar.

    Raises:
        TrtLaneError: no frame of the data set has lanes, the ONNX is not the project's, or a file
            or the key is not there.
    """
    _check_sources(sources)
    if key is not None:
        sign(b"", key)  # before minutes of golden frames, not after
    graph = read_onnx(sources.onnx)
    card = read_card(graph)
    if card is None:
        raise TrtLaneError(f"{sources.onnx} was not written by `python -m engines export`")
    batch = check_outputs(graph, card)
    if (target.builder is BuilderKind.ONNXRUNTIME) != (sources.cpu_engine is not None):
        raise TrtLaneError(
            "a bundle for the CPU, and no other, needs --engine: the engine.onnx that "
            "`python -m engines build --target cpu` writes"
        )
    files: dict[str, Path | bytes] = {GRAPH: sources.onnx}
    chosen = GRAPH if sources.cpu_engine is None else CPU_GRAPH
    if sources.cpu_engine is not None:
        files[CPU_GRAPH] = sources.cpu_engine
    if sources.scales is not None:
        files[SCALES] = sources.scales
    golden, pictures = _golden(sources, card, batch, dataset, progress)
    files |= pictures
    files[GOLDEN] = _json(golden.to_plain())
    files |= _plugins(sources)
    files[LICENCES] = _licences(card, sources).encode()
    entries = {name: file_entry(source) for name, source in files.items()}
    manifest = Manifest(
        model=card.model,
        image=card.image,
        decoder=card.decoder,
        heads=card.heads,
        input_name=graph.graph.input[0].name,
        precision=card.precision,
        digests={**card.digests, "onnx": entries[GRAPH].sha256},
        recipe=target.recipe,
        graph=chosen,
        needs=_needs(target, sum(e.size for e in entries.values()), entries[chosen].size),
        budget_ms=budget_ms,
        made_by=__version__,
        files=entries,
        info={"recipe": card.recipe, "golden_data": dataset.spec},
        batch=batch,
    )
    signature = None if key is None else sign(manifest.to_bytes(), key)
    write_bundle(out, manifest, signature, files)
    return manifest


def _check_sources(sources: Sources) -> None:
    for path in (sources.scales, sources.cpu_engine, sources.plugin_library):
        if path is not None and not path.is_file():
            raise TrtLaneError(f"no file {path}; a bundle takes it as it is")
    folder = sources.plugin_sources
    if folder is not None and not (folder / "host.cpp").is_file():
        raise TrtLaneError(f"{folder} holds no host.cpp; expected the project's folder plugins")


def _golden(
    sources: Sources,
    card: ModelCard,
    batch: int,
    dataset: Dataset,
    progress: Callable[[Sequence[int]], Iterable[int]],
) -> tuple[GoldenSet, dict[str, bytes]]:
    """The candidate frames with most lanes on which float and Q/DQ graph agree best."""
    wanted = min(len(dataset), GOLDEN_FRAMES * CANDIDATES)
    indices = [i * len(dataset) // wanted for i in range(wanted)]
    # On a CPU ONNX Runtime runs the very engine; for a GPU its Q/DQ graph stands in.
    networks = {
        "float": _one_frame(GraphRunner(sources.float_onnx), 1),
        "int8": _one_frame(GraphRunner(sources.cpu_engine or sources.onnx), batch),
    }
    decoder = decoder_from_dict(card.decoder)
    found, _ = lanes_of(networks, card.image, decoder, dataset, progress(indices))
    pairs = list(zip(found["float"], found["int8"], strict=True))

    def merit(position: int) -> tuple[float, int, float]:
        in_float, in_int8 = pairs[position]
        same = agreement([in_int8], [in_float]).f1 if len(in_float) else 0.0
        return same, len(in_float), -lane_distortion_score(in_float, in_int8)

    best = sorted(sorted(range(wanted), key=merit, reverse=True)[:GOLDEN_FRAMES])
    if not any(len(pairs[i][1]) for i in best):
        raise TrtLaneError(
            f"the model finds no lane on {wanted} frames of {dataset.spec}, so they cannot prove "
            "an engine; choose road frames with DATA=…"
        )
    golden, pictures = [], {}
    for number, position in enumerate(best):
        name = f"golden/{number}.png"
        # Already of the model's field of view, so that the vehicle does the same with it.
        frame = fit_frame(dataset.frame(indices[position]), card.image, Fit.CROP).frame
        pictures[name] = cv2.imencode(".png", np.ascontiguousarray(frame))[1].tobytes()
        golden.append(GoldenFrame(name, *_lanes(frame, networks.values(), card, decoder)))
    return GoldenSet(tuple(golden)), pictures


def _one_frame(network: GraphRunner, batch: int) -> Network:
    """A graph of any batch as one that takes one frame: the frame fills all places."""
    return lambda image: {k: v[:1] for k, v in network(np.repeat(image, batch, axis=0)).items()}


def _lanes(
    frame: np.ndarray, networks: Iterable[Network], card: ModelCard, decoder: Any
) -> list[LaneSet]:
    tensor = card.image.to_tensor(frame)[None]
    found = []
    for network in networks:
        heads = {k: np.asarray(v[0], np.float32) for k, v in network(tensor).items()}
        found.append(decoder(**heads).scaled_to(frame.shape[:2]))
    return found


def _plugins(sources: Sources) -> dict[str, Path | bytes]:
    """Sources of the compiled decoders with what is generated of their YAML, and the library."""
    found: dict[str, Path | bytes] = {}
    folder = sources.plugin_sources
    if folder is not None:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if path.suffix in _PLUGIN_SUFFIXES:
                found[f"plugins/{path.relative_to(folder).as_posix()}"] = path
        with tempfile.TemporaryDirectory() as generated:
            command = [sys.executable, str(folder / "common" / "generate.py"), generated]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise TrtLaneError(f"the YAML of {folder} is no description of plugins: {last}")
            found["plugins/generated/specs.h"] = (Path(generated) / "specs.h").read_bytes()
        # CMake makes that header anew, by a generator that reads the YAML with these.
        for name in _GENERATOR_NEEDS:
            found[f"trt_lane/{name}"] = folder.parent / "trt_lane" / name
    if sources.plugin_library is not None:
        found[f"library/{PLUGINS_NAME}"] = sources.plugin_library
    return found


_GENERATOR_NEEDS = ("__init__.py", "errors.py", "files.py", "plugin_fields.py")
_PLUGIN_SUFFIXES = frozenset({".h", ".cu", ".cpp", ".yaml", ".txt", ".cmake", ".py"})


def _licences(card: ModelCard, sources: Sources) -> str:
    lines = [
        "trt_lane (software, decoders, plugins): Apache-2.0",
        f"{card.model} (weights): {sources.licence or 'not stated'}",
        "golden/ (frames): those of the data set named in manifest.json, info.golden_data",
        "TensorRT, CUDA, ONNX Runtime, numpy, OpenCV: not in this bundle; of the device's system",
    ]
    return "".join(f"{line}\n" for line in lines)


def _needs(target: Target, bundle_bytes: int, graph_bytes: int) -> Needs:
    # Unpacked, the engine, its layer report and log, and the timing cache.
    disk = bundle_bytes + 4 * graph_bytes + (16 << 20)
    return Needs(disk, _BUILDER_BYTES[target.builder] + 8 * graph_bytes)


def _json(value: object) -> bytes:
    return (json.dumps(value, allow_nan=False) + "\n").encode()
