"""Named heads for every compiled decoder; numpy says what their lanes are.

A decoder's cases are in cases_<decoder>.py: a function `cases()` that gives its list of Case, with
each of the names in REQUIRED, and where ../shared has official heads, `shared_cases(shared)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from plugin_builds import selected

from trt_lane.decoders import decoder_to_dict
from trt_lane.lanes import LaneSet
from trt_lane.plugin_fields import read_plugins

REQUIRED = {
    "typical",
    "empty",
    "one",
    "tie_at_threshold",
    "image_edge",
    "nan_heads",
    "infinite_heads",
    "every_slot_full",
    "one_more_than_full",
}


@dataclass(frozen=True, eq=False)
class Case:
    """Heads of one frame for a decoder.

    Attributes:
        name: one of REQUIRED, or another.
        decoder: the numpy decoder.
        heads: float32, without the batch axis.
        more: fields that only the plugin has, as slots.
        overflow: bits that the plugin reports, without that of heads with NaN or infinity.
        tolerance_px: how far points may be from numpy's; None for the float32 steps of a float64
            result, 2e-7 of the longer side of the frame.
        score_tolerance: how far scores may be from numpy's.
    """

    name: str
    decoder: Any
    heads: Mapping[str, np.ndarray]
    more: Mapping[str, Any] = field(default_factory=dict)
    overflow: int = 0
    tolerance_px: float | None = None
    score_tolerance: float = 1e-6

    @property
    def plugin(self) -> str:
        """Name of the decoder's plugin."""
        return decoder_to_dict(self.decoder)["name"]

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.plugin}-{self.name}"

    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each head."""
        return {name: head.shape for name, head in self.heads.items()}

    def in_half(self) -> Case:
        """The same with float16 heads; too large logits become infinite, as a network's would."""
        with np.errstate(over="ignore"):
            heads = {k: v.astype(np.float16) for k, v in self.heads.items()}
        return Case(**{**self.__dict__, "heads": heads})

    def expected(self) -> LaneSet:
        """What numpy makes of the heads."""
        return self.decoder(**{k: v.astype(np.float32) for k, v in self.heads.items()})


@cache
def all_cases() -> tuple[Case, ...]:
    """The cases of every decoder that has a folder in plugins/."""
    return tuple(case for name in decoder_names() for case in module(name).cases())


@cache
def decoder_names() -> tuple[str, ...]:
    """Decoders that have a plugin."""
    return tuple(p.name for p in read_plugins(names=selected()) if p.kind == "decoder")


def module(name: str) -> Any:
    """The module of a decoder's cases."""
    return import_module(f"cases_{name}")


def shared_cases(shared: Path, name: str) -> list[Case]:
    """Cases from official heads for a decoder; empty where there are none."""
    found = getattr(module(name), "shared_cases", None)
    return found(shared) if found else []
