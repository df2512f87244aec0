"""A model by name with its weights, as every stage of calibration sees it."""

from __future__ import annotations

from pathlib import Path

from torch import fx

from trt_lane.model import LaneModel, get_model
from trt_lane.models._checkpoint import bundled_weights, load_weights
from trt_lane.models._folded import fold


def folded_model(name: str, weights: Path | None) -> tuple[LaneModel, fx.GraphModule]:
    """The description and the folded float network; the bundled weights when none are given."""
    model = get_model(name)
    network = model.build()
    load_weights(model, network, weights or bundled_weights(model))
    return model, fold(network, model.image.input_hw)
