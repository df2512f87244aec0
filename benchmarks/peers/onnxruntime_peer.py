"""ONNX Runtime's static quantiser on our float ONNX: Q/DQ, symmetric INT8, weights per channel."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import nn

from engines.export import export
from engines.graph_runner import GraphRunner
from trt_lane.evaluation import Network
from trt_lane.model import LaneModel

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
PERCENTILE = 99.99
# The placement that favours it: inputs of layers with weights alone, as TensorRT wants it. By
# default ONNX Runtime also quantises what layers give, the heads too, and products of activations.
LAYERS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


class _Frames(CalibrationDataReader):
    """One frame at a time; `set_range` lets ONNX Runtime forget a frame's tensors after it."""

    def __init__(self, frames: np.ndarray, name: str) -> None:
        self._frames, self._name = frames, name
        self._left: Iterator[np.ndarray] = iter(frames)

    def __len__(self) -> int:
        return len(self._frames)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._frames[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        frame = next(self._left, None)
        return None if frame is None else {self._name: frame[None]}


def quantise(
    model: LaneModel, network: nn.Module, frames: np.ndarray, method: str
) -> tuple[Network, dict[str, Any]]:
    """The exported network quantised by ONNX Runtime, run as it is written, and facts about it.

    Args:
        model: names, heads; its `float_layers` stay in float here too.
        network: the float torch network with weights.
        frames: network inputs float32 (F, 3, h, w).
        method: ranges of activations by minmax, percentile (99.99) or entropy.
    """
    logging.getLogger().setLevel(logging.ERROR)  # it advises a step that our export has done
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        graph = export(model, network, None, source).graph
        kept = [path.replace(".", "_") for path in model.float_layers]
        quantize_static(
            source,
            target,
            _Frames(frames, graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=LAYERS,
            nodes_to_exclude=[n.name for n in graph.node if _is_below(n.name, kept)],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[method],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": LAYERS,
                "CalibPercentile": PERCENTILE,
                # Without it the tensors of all frames lie in memory at once; it holds for the
                # histogram methods too, whatever its name says.
                "CalibStridedMinMax": 1,
            },
        )
        nodes = onnx.load(target, load_external_data=False).graph.node
        return GraphRunner(target), {
            "quantised_tensors": sum(n.op_type == "QuantizeLinear" for n in nodes)
        }


def quantise_for_speed(source: Path, frames: np.ndarray, target: Path) -> None:
    """As its own guide has it for CPUs with VNNI: uint8 x int8, Q/DQ, all operators, min and max.

    Args:
        source: float ONNX.
        frames: network inputs float32 (F, 3, h, w).
        target: written.
    """
    logging.getLogger().setLevel(logging.ERROR)
    name = onnx.load(source, load_external_data=False).graph.input[0].name
    quantize_static(
        source,
        target,
        _Frames(frames, name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"CalibStridedMinMax": 1},
    )


def _is_below(name: str, kept: list[str]) -> bool:
    """Whether a node, named after its module, lies in one of the modules."""
    return any(name == path or name.startswith(f"{path}_") for path in kept)
