"""A float ONNX of a model, run beside the torch module."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import fx, nn

from trt_lane.model import LaneModel

TOLERANCE = 1e-4  # of the largest output
OPSET = 19
# Exporter and parser take more than these, but TensorRT runs none of them natively.
FOREIGN = {"DeformConv", "If", "Loop", "Scan", "NonZero", "SequenceAt", "Unique"}


def fill_randomly(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and batch-norm statistics that let a signal through, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.dtype != torch.float32:
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(0.5 + noise.abs())
        elif value.ndim == 1:
            value.copy_(0.1 * noise + (0.8 if name.endswith("weight") else 0.0))
        else:
            value.copy_(noise * (0.5 / value[0].numel()) ** 0.5)
    return module.eval()


def onnx_bytes(model: LaneModel, module: nn.Module) -> bytes:
    """The module as ONNX, batch 1."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, *model.image.input_hw),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[head.name for head in model.heads],
        )
    return buffer.getvalue()


def assert_export_agrees(model: LaneModel, module: nn.Module) -> None:
    """ONNX Runtime and torch give the same heads, and the graph holds plain static operators."""
    serialized = onnx_bytes(model, module)
    operators = {node.op_type for node in onnx.load_from_string(serialized).graph.node}
    assert not operators & FOREIGN, operators & FOREIGN
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(serialized, options, ["CPUExecutionProvider"])
    image = torch.randn(1, 3, *model.image.input_hw, generator=torch.Generator().manual_seed(1))
    found = session.run(None, {"image": image.numpy()})
    with torch.inference_mode():
        expected = module(image)
    for head, value in zip(model.heads, found, strict=True):
        official = expected[head.name].numpy()
        assert value.shape == (1, *head.shape)
        error = np.abs(value - official).max() / np.abs(official).max()
        assert error <= TOLERANCE, f"{head.name}: off by {error:.2e} of the largest output"


def assert_trace_agrees(model: LaneModel, module: nn.Module) -> None:
    """The traced graph, at batch 2, gives for each image what the module gives alone."""
    images = torch.randn(2, 3, *model.image.input_hw, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        traced = fx.symbolic_trace(module)(images)
        alone = module(images[1:])
    for head in model.heads:
        limit = TOLERANCE * alone[head.name].abs().max()
        assert (traced[head.name][1:] - alone[head.name]).abs().max() <= limit, head.name


def assert_heads_described(model: LaneModel) -> None:
    """Without computing: the network's outputs have the names and shapes of the heads."""
    with torch.inference_mode(), torch.device("meta"):
        outputs = model.network().eval()(torch.empty(2, 3, *model.image.input_hw))
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        head.name: (2, *head.shape) for head in model.heads
    }
