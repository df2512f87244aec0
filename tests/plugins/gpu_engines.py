"""Every plugin in a TensorRT engine of its own: ONNX with the node, parser, builder, inference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from cases import Case, all_cases
from devices import CudaDevice
from onnx import TensorProto, helper
from running import difference

from engines.attach import attach
from engines.card import KEY
from trt_lane.building.compat import network_flags
from trt_lane.decoders import decoder_to_dict
from trt_lane.image import ImageSpec
from trt_lane.plugin_library import LANE_OUTPUTS, LaneOutputs


def head_model(case: Case) -> onnx.ModelProto:
    """A network that hands its inputs on as the heads of a case, with the decoder's plugin."""
    half = next(iter(case.heads.values())).dtype == np.float16
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    nodes = [helper.make_node("Identity", [f"{k}_in"], [k], name=f"make_{k}") for k in case.heads]

    def values(ending: str) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(k + ending, kind, [1, *v.shape])
            for k, v in case.heads.items()
        ]

    graph = helper.make_graph(nodes, "heads", values("_in"), values(""))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(_card(case))
    return attach(model, **case.more)


def _card(case: Case) -> dict:
    heads = [{"name": k, "shape": list(v.shape)} for k, v in case.heads.items()]
    return {
        "model": case.id,
        "image": ImageSpec(case.decoder.frame_hw, (32, 32)).to_dict(),
        "decoder": decoder_to_dict(case.decoder),
        "heads": heads,
        "float_type": "fp32",
        "recipe": None,
        "scales": None,
        "digests": {},
    }


def all_engines(device: CudaDevice, library: Path) -> Iterator[dict]:
    """An engine for every plugin and head type; ImportError where TensorRT is not installed."""
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, "")
    if trt.get_plugin_registry().load_library(str(library)) is None:
        yield {"case": "load_library", "difference": f"TensorRT {trt.__version__} loads no plugins"}
        return
    for case in all_cases():
        if case.name in ("typical", "one_more_than_full"):
            for given in (case, case.in_half()):
                half = "half" if given is not case else "float"
                name = f"{case.id}-{half}-TensorRT {trt.__version__}"
                yield {"case": name, "difference": _in_engine(trt, logger, device, given)}


def _in_engine(trt: object, logger: object, device: CudaDevice, case: Case) -> str:
    """How an engine's lanes differ from numpy's."""
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(head_model(case).SerializeToString()):
        return "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
    serialised = builder.build_serialized_network(network, builder.create_builder_config())
    if serialised is None:
        return "TensorRT cannot build it"
    engine = trt.Runtime(logger).deserialize_cuda_engine(serialised)
    context = engine.create_execution_context()
    memory, arrays = {}, {}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            arrays[name] = np.ascontiguousarray(case.heads[name.removesuffix("_in")][None])
        else:
            arrays[name] = np.zeros(tuple(engine.get_tensor_shape(name)), dtype)
        memory[name] = device.upload(arrays[name])
        context.set_tensor_address(name, int(memory[name]))
    if not context.execute_async_v3(device.stream):
        return "TensorRT cannot run it"
    for name in LANE_OUTPUTS:
        device.download(memory[name], arrays[name])
    return difference(case, LaneOutputs(*(arrays[name] for name in LANE_OUTPUTS)))
