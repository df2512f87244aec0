"""A whole bundle of a tiny row-anchor network for the CPU, made without torch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import numpy_helper
from tiny_artifact import row_anchor_pair

from engines.build import build
from engines.bundle import Sources, make_bundle
from engines.target import load_target
from trt_lane.bundle.manifest import Manifest
from trt_lane.datasets import open_dataset


def write_frames(folder: Path, count: int = 4) -> str:
    """Blurred noise in the network's proportions; the spec of the data set."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        coarse = rng.integers(0, 256, (5, 9, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (164, 59)))
    return f"images:{folder}"


def make_tiny_bundle(
    folder: Path,
    seed: int = 0,
    key: Path | None = None,
    batch: int = 1,
    target: str = "cpu",
    **changes: object,
) -> Path:
    """Write bundle.tar and what it is made of into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    device = load_target(target)
    pair = row_anchor_pair(seed)
    onnx.save(with_batch(pair.qdq, batch), folder / "qdq.onnx")
    onnx.save(pair.float_model, folder / "float.onnx")
    engine = None
    if target == "cpu":
        engine = build(folder / "qdq.onnx", device, folder / "cpu", maxima=pair.maxima).engine
    sources = Sources(
        folder / "qdq.onnx", folder / "float.onnx", None, engine, licence="none, made up"
    )
    data = open_dataset(write_frames(folder / "frames"))
    make_bundle(folder / "bundle.tar", sources, device, data, key=key, **changes)
    return folder / "bundle.tar"


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The graph for several frames at once; its reshapes are told so."""
    batched = onnx.ModelProto()
    batched.CopyFrom(model)
    for value in (*batched.graph.input, *batched.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del batched.graph.value_info[:]
    shapes = {node.input[1] for node in batched.graph.node if node.op_type == "Reshape"}
    for constant in batched.graph.initializer:
        if constant.name in shapes:
            shape = numpy_helper.to_array(constant).copy()
            shape[0] = batch
            constant.CopyFrom(numpy_helper.from_array(shape, constant.name))
    return batched


def rewrite(bundle: Path, out: Path, **changes: object) -> Path:
    """The bundle with other values in its manifest, sealed anew: what a wrong writer would make."""
    import dataclasses

    from trt_lane.bundle.archive import open_bundle, write_bundle

    with open_bundle(bundle) as reader:
        manifest: Manifest = dataclasses.replace(reader.manifest, **changes)
        unpacked = out.parent / f"{out.name}.files"
        unpacked.mkdir()
        reader.unpack(unpacked)
    write_bundle(out, manifest, None, {name: unpacked / name for name in manifest.files})
    return out
