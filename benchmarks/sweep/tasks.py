"""What a worker does: make an engine, score a shard. Values in, values out, no file left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import cv2

from benchmarks.accuracy import drawn_row
from benchmarks.sweep.pools import REASON_CHARACTERS
from engines.build import LAYERS_NAME, read_layers
from engines.card import read_card, read_onnx
from engines.graph_runner import GraphRunner
from engines.layer_table import coverage
from trt_lane.artifact import EngineArtifact
from trt_lane.backends import open_backend
from trt_lane.datasets import open_dataset
from trt_lane.decoders import decoder_from_dict
from trt_lane.errors import TrtLaneError
from trt_lane.evaluation import lanes_of
from trt_lane.metrics.report import score_labels
from trt_lane.model import Metric

ROOT = Path(__file__).resolve().parents[2]
ENGINE, GRAPH = "engine", "model.onnx"


def make_engine(commands: list[list[str]]) -> bytes:
    """Run the commands in an empty folder; the engine's folder, or else the graph, as a zip.

    Raises:
        TrtLaneError: a command failed; with the last that it said.
    """
    with tempfile.TemporaryDirectory(prefix="trt_lane_sweep_") as name:
        folder = Path(name)
        for words in commands:
            _run(words, folder)
        engine = folder / ENGINE
        kept = sorted(engine.iterdir()) if engine.is_dir() else [folder / GRAPH]
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in kept:
                archive.write(path, path.relative_to(folder))
        return buffer.getvalue()


def score_shard(packed: bytes, data: str, start: int, stop: int) -> dict[str, Any]:
    """Counts of every labelled frame from `start` up to `stop`, with one thread.

    Returns:
        {"metric", "names", "categories", "rows"}: rows as Form.culane or Form.tusimple has them.
    """
    cv2.setNumThreads(1)
    dataset = open_dataset(data)
    with tempfile.TemporaryDirectory(prefix="trt_lane_sweep_") as name:
        folder = unpacked(packed, Path(name))
        artifact_folder = folder / ENGINE
        if artifact_folder.is_dir():
            artifact = EngineArtifact.load(artifact_folder)
            image, decoder = artifact.image, artifact.make_decoder()
            backend = open_backend(artifact, 1)
            network = {"it": lambda x: {k: v[None] for k, v in backend.infer(x).items()}}
        else:
            card = read_card(read_onnx(folder / GRAPH))
            image, decoder = card.image, decoder_from_dict(card.decoder)
            network = {"it": GraphRunner(folder / GRAPH, 1)}
        lanes, labels = lanes_of(network, image, decoder, dataset, range(start, stop))
    pairs = [
        (label, p) for label, p in zip(labels, lanes["it"], strict=True) if label.lanes is not None
    ]
    if dataset.metric is Metric.TUSIMPLE:
        found = score_labels(dataset.metric, [a for a, _ in pairs], [p for _, p in pairs]).per_image
        rows = [[s.accuracy, s.fp, s.fn] for s in found]
    else:
        rows = [drawn_row(dataset.metric, p, label.lanes) for label, p in pairs]
    return {
        "metric": dataset.metric.value,
        "names": [label.name for label, _ in pairs],
        "categories": [label.category or "" for label, _ in pairs],
        "rows": rows,
    }


def facts(packed: bytes) -> dict[str, Any]:
    """Size of the engine and its share of INT8 MACs; the share is None for a graph alone."""
    with tempfile.TemporaryDirectory(prefix="trt_lane_sweep_") as name:
        folder = unpacked(packed, Path(name))
        if not (folder / ENGINE).is_dir():
            return {"bytes": (folder / GRAPH).stat().st_size, "int8_share": None}
        artifact = EngineArtifact.load(folder / ENGINE)
        share = coverage(read_layers(folder / ENGINE / LAYERS_NAME)).share
        return {"bytes": artifact.engine_path.stat().st_size, "int8_share": share}


def unpacked(packed: bytes, folder: Path) -> Path:
    """The folder with the archive's files in it; a damaged archive is an error."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise TrtLaneError(f"a kept engine is damaged ({error}); delete it and run again") from None
    return folder


def _run(words: list[str], folder: Path) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, **dict.fromkeys(names, "1"), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise TrtLaneError(f"{' '.join(words[:3])}: {said[:REASON_CHARACTERS]}")
