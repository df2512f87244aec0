"""QuantRecipe: what decides a ScaleTable besides the network, the weights and the data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from calibrators.observers import OBSERVERS


@dataclass(frozen=True)
class TensorRecipe:
    """How one kind of tensor gets its step.

    Attributes:
        observer: minmax, percentile, entropy, mse or aciq.
        bits: 8 is deployable; 2..7 are simulations.
        percentile: share in per cent that the percentile observer keeps.
    """

    observer: str = "minmax"
    bits: int = 8
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if self.observer not in OBSERVERS:
            raise ValueError(f"observer is {self.observer!r}; expected one of {sorted(OBSERVERS)}")
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits is {self.bits}; expected 2..8")
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}; expected above 50, up to 100")


class UnitKind(str, Enum):
    """What is reconstructed at once."""

    LAYER = "layer"  # AdaRound
    BLOCK = "block"  # BRECQ, QDrop
    NETWORK = "network"  # Selective Focus


class ChannelWeight(str, Enum):
    """How the quantities of one head (offset, angle, …) are weighed against each other."""

    VARIANCE = "variance"  # by how much each varies over the calibration frames
    SLOPE = "slope"  # by how far each moves the lanes, measured with the decoder
    LANES = "lanes"  # by how far they move the lanes together, measured with the decoder


class ClassError(str, Enum):
    """What counts as an error of logits of exclusive classes."""

    SQUARES = "squares"  # of the logits
    DIVERGENCE = "divergence"  # of the probabilities that the decoder reads


class FocusMode(str, Enum):
    """Semantic Guided Focus: how the confidence weighs the places of a head."""

    OFF = "off"
    SOFT = "soft"
    BINARY = "binary"


class SelectionMode(str, Enum):
    """Sensitivity Aware Selection: how the heads that matter are found while learning."""

    OFF = "off"  # all heads count the same
    INTERPOLATED = "interpolated"  # from curves measured once
    PROBED = "probed"  # by decoding again at every refresh


class HeadPrecision(str, Enum):
    """Whether the layers that belong to one head alone are quantised."""

    QUANTISED = "quantised"
    FLOAT = "float"


class Order(str, Enum):
    """Whether roundings and activation steps are learned in one pass or in two."""

    TOGETHER = "together"
    ROUNDING_FIRST = "rounding_first"


@dataclass(frozen=True)
class ReconstructionRecipe:
    """How roundings and steps are learned.

    Attributes:
        unit: layer, block or network. Blocks with a focus or a selection are held against the
            heads, with what follows them in float (our reading of block-wise Selective Focus).
        order: roundings and activation steps together (QDrop, Selective Focus), or roundings first
            with float activations and then steps (BRECQ).
        steps: optimiser steps per unit.
        block_steps: optimiser steps per block before the network is learned as a whole: with few
            bits the gradient through a network that does not work yet leads nowhere.
        steps_after: optimiser steps per unit of the second pass when the order has one.
        batch: frames per step.
        learn_rounding: whether weights may round either way (AdaRound).
        learn_steps: whether activation steps are learned along (QDrop, LSQ).
        learn_biases: whether the float biases take up the mean error (no published method does).
        lr_biases: Adam's rate for them, in INT8 steps of the layer's output.
        lr_rounding, lr_steps: Adam's rates; that of the steps falls to 0 along a cosine and acts on
            their logarithm.
        drop: probability that an activation element stays float while learning (QDrop).
        regularisation: weight of the term that decides roundings; summed over elements for layers
            and blocks (AdaRound's 0.01), averaged for the network.
        warm_up: share of the steps without that term, and at temperature 1.
        temperature: the roundings' at the end; 1 leaves deciding to the regularisation (AdaRound).
        channels: how the quantities of one head are weighed against each other.
        classes: what counts as an error of class logits.
        focus, floor: Semantic Guided Focus and the background weight of the confidence head.
        selection, top_k, refreshes, unselected: Sensitivity Aware Selection: heads that count (0:
            half of them), how often they are chosen anew, weight of the others.
    """

    unit: UnitKind = UnitKind.NETWORK
    order: Order = Order.TOGETHER
    steps: int = 800
    block_steps: int = 0
    steps_after: int = 200
    batch: int = 4
    learn_rounding: bool = True
    learn_steps: bool = True
    learn_biases: bool = False
    lr_rounding: float = 1e-2
    lr_biases: float = 1e-2
    lr_steps: float = 1e-3
    drop: float = 0.5
    regularisation: float = 0.01
    warm_up: float = 0.2
    temperature: float = 1.0
    channels: ChannelWeight = ChannelWeight.VARIANCE
    classes: ClassError = ClassError.SQUARES
    focus: FocusMode = FocusMode.OFF
    floor: float = 0.1
    selection: SelectionMode = SelectionMode.OFF
    top_k: int = 0
    refreshes: int = 20
    unselected: float = 0.1

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            _choose(self, name, kind)
        for name, low, high in (
            ("steps", 1, 10**6),
            ("block_steps", 0, 10**6),
            ("steps_after", 1, 10**6),
            ("batch", 1, 1024),
            ("lr_rounding", 0, 1),
            ("lr_steps", 0, 1),
            ("lr_biases", 0, 1),
            ("drop", 0, 0.99),
            ("regularisation", 0, 1e3),
            ("warm_up", 0, 0.85),
            ("temperature", 1e-3, 1),
            ("floor", 0, 1),
            ("top_k", 0, 100),
            ("refreshes", 1, 10**4),
            ("unselected", 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {low} to {high}")
        if not (self.learn_rounding or self.learn_steps or self.learn_biases):
            raise ValueError("roundings, steps and biases are all off: nothing to learn")
        if self.unit is not UnitKind.NETWORK and self.block_steps:
            raise ValueError(
                f"block_steps come before the network's; unit is {self.unit.value}, not network"
            )
        if self.block_steps and self.order is not Order.TOGETHER:
            raise ValueError(
                f"block_steps learn roundings and steps together; order is {self.order.value}"
            )
        if self.unit is UnitKind.LAYER and self.on_heads:
            raise ValueError("focus and selection look at the heads; unit is layer, not a block")

    @property
    def on_heads(self) -> bool:
        """Whether a unit is held against the heads: the network, and blocks with a focus.

        A block is else held against what it gave in float itself, as BRECQ and QDrop do.
        """
        focused = self.focus is not FocusMode.OFF or self.selection is not SelectionMode.OFF
        return self.unit is UnitKind.NETWORK or focused


_KINDS = {
    "unit": UnitKind,
    "order": Order,
    "channels": ChannelWeight,
    "classes": ClassError,
    "focus": FocusMode,
    "selection": SelectionMode,
}
CHOICES = (*_KINDS.values(), HeadPrecision)  # what a recipe's file names by value


@dataclass(frozen=True)
class QuantRecipe:
    """A quantisation method with its numbers; one TOML file each.

    Attributes:
        name: the file's name without .toml.
        description: one line for people.
        weights, activations: how steps are found.
        frames: calibration images, spread evenly over the data.
        batch: frames per forward pass.
        seed: of every random draw.
        equalise: whether ranges are moved between layers first (calibrators.equalise).
        heads: whether each head's own layers are quantised like the rest or stay in float, as some
            papers leave them (calibrators.network_parts.head_layers).
        reconstruction: learned after the observers, or None for nearest rounding.
    """

    name: str
    description: str
    weights: TensorRecipe = field(default_factory=TensorRecipe)
    activations: TensorRecipe = field(default_factory=TensorRecipe)
    frames: int = 64
    batch: int = 4
    seed: int = 0
    equalise: bool = False
    heads: HeadPrecision = HeadPrecision.QUANTISED
    reconstruction: ReconstructionRecipe | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or self.batch < 1:
            raise ValueError(f"frames is {self.frames}, batch is {self.batch}; expected 1 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; expected 0 to 2^63 - 1")
        _choose(self, "heads", HeadPrecision)

    def digest(self) -> str:
        """sha256 of every number; the description does not count."""
        numbers = {k: v for k, v in asdict(self).items() if k != "description"}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()

    @property
    def deployable(self) -> bool:
        """Whether TensorRT can run it (8 bits everywhere); else it is a simulation."""
        return self.weights.bits == 8 and self.activations.bits == 8


def _choose(recipe: Any, name: str, kind: type[Enum]) -> None:
    """Put the member in the place of its value."""
    value = getattr(recipe, name)
    try:
        object.__setattr__(recipe, name, kind(value))
    except ValueError:
        known = ", ".join(k.value for k in kind)
        raise ValueError(f"{name} is {value!r}; expected one of {known}") from None
