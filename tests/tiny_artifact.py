"""A whole CPU artifact of a tiny row-anchor network, made without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from qdq_graphs import GraphMaker, Pair, pair, resnet

from engines.build import build
from engines.card import KEY, read_card
from engines.package import package
from engines.target import load_target
from trt_lane.artifact import EngineArtifact
from trt_lane.decoders import decoder_to_dict
from trt_lane.decoders.row_anchor import RowAnchor
from trt_lane.image import ImageSpec

IMAGE = ImageSpec((590, 1640), (32, 96))
DECODER = RowAnchor((590, 1640), (310.0, 400.0, 490.0, 580.0), 10, 2, 164.0)


def row_anchor_pair(seed: int = 0, dtype: type = np.float32) -> Pair:
    """The network in float and with Q/DQ, each with the model's card in its metadata."""
    found = pair(_network, seed=seed, dtype=dtype)
    for model, scales in ((found.float_model, None), (found.qdq, "0" * 64)):
        entry = model.metadata_props.add()
        entry.key, entry.value = KEY, json.dumps(_description(scales))
    return found


def make_artifact(folder: Path, seed: int = 0) -> EngineArtifact:
    """Build and package the network for the CPU."""
    found = row_anchor_pair(seed)
    path = folder / "model.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(found.qdq, path)
    target = load_target("cpu")
    result = build(path, target, folder, maxima=found.maxima)
    return package(result, path, read_card(found.qdq), target)


def _network(maker: GraphMaker) -> onnx.ModelProto:
    size = int(np.prod(DECODER.head_shape))
    model = resnet(maker, hw=IMAGE.input_hw, head=size)
    graph = model.graph
    shape = numpy_helper.from_array(np.int64([1, *DECODER.head_shape]), "head_shape")
    graph.initializer.append(shape)
    graph.node.append(
        helper.make_node("Reshape", ["fc2", "head_shape"], ["logits"], name="to_head")
    )
    kind = graph.output[0].type.tensor_type.elem_type
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", kind, [1, *DECODER.head_shape]))
    return model


def _description(scales: str | None) -> dict:
    return {
        "model": "ufld",
        "metric": "culane",
        "image": IMAGE.to_dict(),
        "decoder": decoder_to_dict(DECODER),
        "heads": [{"name": "logits", "shape": list(DECODER.head_shape), "semantics": "logits"}],
        "float_type": "fp32",
        "recipe": None if scales is None else "int8_minmax",
        "scales": scales,
        "digests": {"weights": "1" * 64},
    }
