"""What a network is trained towards: one file per output representation, as in trt_lane/decoders.

The file that has the name of the model's decoder is used. It offers
    targets(model, lanes): lanes float32 (S, P, 2) in frame pixels by slot, NaN is no point ->
        {name: numpy array} for one frame,
    loss(model, heads, targets): heads and targets as torch tensors with a batch axis -> scalar,
    RECIPE: the TrainingRecipe that gives good weights within an hour on two cores.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from trt_lane.errors import TrtLaneError
from trt_lane.model import LaneModel


def targets_of(model: LaneModel) -> ModuleType:
    """The file of this package for the model's decoder."""
    name = type(model.decoder).__module__.rpartition(".")[2]
    known = sorted(m.name for m in iter_modules(__path__))
    if name not in known:
        raise TrtLaneError(
            f"no training target for the decoder {name!r} of {model.name}; known: "
            f"{', '.join(known)}. To train it, write training/targets/{name}.py"
        )
    return import_module(f"{__name__}.{name}")
