"""LaneModel: what the project must know about a lane detector, and where to find one."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec

if TYPE_CHECKING:
    from torch import nn


class Activation(str, Enum):
    """How raw confidence values become probabilities."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class Metric(str, Enum):
    """The official score of the data set that a model was trained for.

    A data set is scored by its own, whatever the model was trained for.
    """

    CULANE = "culane"
    TUSIMPLE = "tusimple"
    CURVELANES = "curvelanes"
    LLAMAS = "llamas"
    BDD100K = "bdd100k"

    @property
    def rule(self) -> str:
        """What it counts, and whether `trt-lane score` does."""
        return _RULES[self]


_RULES = {
    Metric.CULANE: "F1 of lanes drawn 30 px wide on 1640x590 px, found above IoU .5; "
    "trt-lane score culane gives the official counts",
    Metric.TUSIMPLE: "accuracy of points at fixed rows, FP and FN; trt-lane score tusimple gives "
    "lane.py's figures",
    Metric.CURVELANES: "F1 of lanes drawn 5 px wide on 224x224 px, found above IoU .5; "
    "trt-lane score curvelanes gives the official counts",
    Metric.LLAMAS: "CULane's F1 at 1276x717 px, predictions along another spline and annotations "
    "row by row from 300 on; trt-lane score llamas gives the official counts",
    Metric.BDD100K: "IoU and accuracy of lane pixels against drawn masks, no score of lanes; not "
    "computed here",
}


@dataclass(frozen=True)
class Confidence:
    """Where the model itself says how likely each place is lane (foreground).

    Attributes:
        head: name of the head that holds it.
        activation: softmax over `axis`, or an element-wise sigmoid.
        axis: the class axis in Head.shape (no batch axis); removed from the result. None when the
            head has no class axis.
        classes: indices along `axis` that are background if `of_background`, else foreground; their
            probabilities are summed. Empty for a sigmoid without a class axis.
        of_background: whether `classes` names the background.
        threshold: the decoder's own decision threshold on the probability.
    """

    head: str
    activation: Activation
    axis: int | None = None
    classes: tuple[int, ...] = ()
    of_background: bool = False
    threshold: float = 0.5


@dataclass(frozen=True)
class Head:
    """One output tensor of a lane detector.

    Attributes:
        name: key in the dict that the network returns; also the ONNX output's name.
        shape: without the batch axis.
        semantics: what its numbers mean, for reports ("location logits", "curve parameters").
        confidence: where its foreground comes from, or None when it has none.
        confidence_axes: for each axis of the confidence map (the class axis removed), the axis of
            this head that runs along it; sizes may differ (the map is then resized).
        channel_axis: axis whose entries are different physical quantities (offset, length, …) of
            different magnitude, or None when all of the head is one quantity.
    """

    name: str
    shape: tuple[int, ...]
    semantics: str
    confidence: Confidence | None = None
    confidence_axes: tuple[int, ...] = ()
    channel_axis: int | None = None

    def __post_init__(self) -> None:
        axes = (*self.confidence_axes, *(() if self.channel_axis is None else (self.channel_axis,)))
        if any(not 0 <= a < len(self.shape) for a in axes):
            raise ValueError(f"head {self.name}: axes {axes} do not fit its shape {self.shape}")


@dataclass(frozen=True)
class Origin:
    """Where a model's official weights and figures come from."""

    source: str  # repository of the official code
    licence: str
    # Name of the official checkpoint file, or where it is listed; "" when bundled or not published.
    checkpoint: str = ""
    official_score: str = ""  # e.g. "CULane F1 68.4"


@dataclass(frozen=True)
class LaneModel:
    """A lane detector: network, geometry, heads, decoder.

    Attributes:
        name: `<family>` for the demo, else `<family>.<backbone>_<data set>`.
        image: geometry and normalisation.
        heads: in output order.
        decoder: turns the heads of one frame into a LaneSet (trt_lane.decoders).
        network: makes the float torch module; its state-dict keys are the official code's and its
            forward takes float32 (N, 3, h, w) and returns {head name: tensor}.
        metric: the official score of its data set.
        origin: where official weights come from.
        training_only: prefixes of checkpoint keys that inference does not use.
        training_shapes: shapes of some of those keys, where they alone tell a checkpoint from that
            of another variant; a checkpoint that lacks the keys is taken.
        companions: companions(module, folder) reads the official files that must lie beside a
            checkpoint in its folder (anchor statistics); None when the checkpoint says all.
            A missing file is a TrtLaneError. Bundled weights need none.
        float_layers: module paths that stay in float in every recipe, with the reason in the file.
        demo: whether weights for it are bundled (weights/weights.toml).
    """

    name: str
    image: ImageSpec
    heads: tuple[Head, ...]
    decoder: Any
    network: Callable[[], nn.Module] = field(compare=False)
    metric: Metric = Metric.CULANE
    origin: Origin = Origin("trt_lane", "Apache-2.0")
    training_only: tuple[str, ...] = ()
    training_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False)
    companions: Callable[[nn.Module, Path], None] | None = field(default=None, compare=False)
    float_layers: tuple[str, ...] = ()
    demo: bool = False

    def __post_init__(self) -> None:
        used = [key for key in self.training_shapes if not key.startswith(self.training_only)]
        if used:
            raise ValueError(f"training_shapes has {used}; expected keys under training_only")

    def build(self) -> nn.Module:
        """The float network in eval mode, with fresh weights."""
        return self.network().eval()

    @property
    def family(self) -> str:
        """The part of the name before the dot: its file in trt_lane/models."""
        return self.name.partition(".")[0]

    def head(self, name: str) -> Head:
        """The head of that name."""
        return next(h for h in self.heads if h.name == name)


def list_models() -> list[str]:
    """Names of all known models, sorted. Imports torch."""
    return sorted(m.name for family in list_families() for m in _family_models(family))


def list_families() -> list[str]:
    """Names of the files in trt_lane/models. Does not import torch."""
    package = import_module("trt_lane.models")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def get_model(name: str) -> LaneModel:
    """The model of that name ("ufld", "ufld.r34_tusimple"); imports its family only, and torch.

    A family of one variant goes by its own name, too.
    """
    family = name.partition(".")[0]
    models = _family_models(family) if family in list_families() else ()
    for model in models:
        if model.name == name:
            return model
    if name == family and len(models) == 1:
        return models[0]
    if models:
        known = [m.name for m in models]
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise TrtLaneError(f"no variant {name!r}; {hint}variants of {family}: {', '.join(known)}")
    families = list_families()
    close = difflib.get_close_matches(family, families, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise TrtLaneError(
        f"no lane model {name!r}; {hint}known families: {', '.join(families)}. "
        f"To add one, write trt_lane/models/{family}.py"
    )


def _family_models(family: str) -> tuple[LaneModel, ...]:
    try:
        return import_module(f"trt_lane.models.{family}").MODELS
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TrtLaneError(
            "models need PyTorch, which is not installed here; on a workstation run: make setup. "
            "A vehicle needs only the artifact: trt-lane detect ARTIFACT"
        ) from None
