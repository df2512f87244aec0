"""NVIDIA ModelOpt's post-training INT8 of a float torch network (nvidia-modelopt, extra `peers`).

Weights per output channel by their maximum, inputs of layers per tensor, as INT8_DEFAULT_CFG has
it. Only modules are quantised: attention projections that are functions stay in float.
"""

from __future__ import annotations

import copy
from typing import Any

import modelopt.torch.quantization as mtq
import numpy as np
import torch
from modelopt.torch.quantization.calib import HistogramCalibrator
from modelopt.torch.quantization.nn import TensorQuantizer
from modelopt.torch.quantization.tensor_quant import fake_tensor_quant
from torch import Tensor, nn

from trt_lane.evaluation import Network
from trt_lane.model import LaneModel

BATCH = 4
FIRST_BIN = 128  # as ModelOpt's own search has it: below it no range holds 128 levels


def quantise(
    model: LaneModel, network: nn.Module, frames: np.ndarray, method: str
) -> tuple[Network, dict[str, Any]]:
    """The network in ModelOpt's INT8 simulation, and facts about it.

    Args:
        model: its `float_layers` stay in float here too.
        network: the float torch network with weights; it is changed.
        frames: network inputs float32 (F, 3, h, w).
        method: ranges of activations by max, percentile (99.99), entropy or mse.
    """
    config = copy.deepcopy(mtq.INT8_DEFAULT_CFG)
    kept = [{"quantizer_name": f"{path}.*", "enable": False} for path in model.float_layers]
    config["quant_cfg"] += kept

    def feed(module: nn.Module) -> None:
        with torch.no_grad():
            for batch in torch.from_numpy(frames).split(BATCH):
                module(batch)

    if method == "max":
        quantised = mtq.quantize(network, config, feed)
    else:
        for entry in config["quant_cfg"]:
            if entry["quantizer_name"] == "*input_quantizer" and "cfg" in entry:
                entry["cfg"]["calibrator"] = "histogram"
        config["algorithm"] = None
        quantised = mtq.quantize(network, config, None)
        _calibrate(quantised, feed, method)
    return _as_network(quantised), {"quantised_layers": _quantised_layers(quantised)}


def _calibrate(network: nn.Module, feed: Any, method: str) -> None:
    quantizers = [
        m for m in network.modules() if isinstance(m, TensorQuantizer) and m.is_enabled
    ]  # fmt: skip
    for quantizer in quantizers:
        quantizer.disable_quant()
        quantizer.enable_calib()
    feed(network)
    for quantizer in quantizers:
        calibrator = quantizer._calibrator
        if not isinstance(calibrator, HistogramCalibrator):
            quantizer.load_calib_amax()
        elif method == "mse":
            quantizer.amax = _mse_range(calibrator)
        else:
            quantizer.load_calib_amax(method)
        quantizer.enable_quant()
        quantizer.disable_calib()


def _mse_range(calibrator: HistogramCalibrator) -> Tensor:
    """ModelOpt's search over its histogram, with its quantiser called as that is declared.

    ModelOpt 0.47 passes num_bits where fake_tensor_quant takes a bias, so its own search ends at
    its first candidate, a sixteenth of the range, for every tensor (no lane is left then).
    """
    counts, edges = calibrator._calib_hist.float(), calibrator._calib_bin_edges.float()
    centres = (edges[1:] + edges[:-1])[: len(counts)] / 2
    errors = [
        ((fake_tensor_quant(centres, centre, None, 8) - centres).square() * counts).sum()
        for centre in centres[FIRST_BIN:]
    ]
    return centres[FIRST_BIN + int(torch.stack(errors).argmin())]


def _quantised_layers(network: nn.Module) -> int:
    quantizers = (getattr(m, "weight_quantizer", None) for m in network.modules())
    return sum(isinstance(q, TensorQuantizer) and q.is_enabled for q in quantizers)


def _as_network(module: nn.Module) -> Network:
    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: head.numpy() for name, head in module(torch.from_numpy(image)).items()}

    return run
