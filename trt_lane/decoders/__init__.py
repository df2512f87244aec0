"""Head outputs to lanes: one file per output representation; the numpy code is the definition.

A decoder is a frozen dataclass of plain numbers. Calling it with the heads of ONE frame as float32
numpy arrays (no batch axis), named as in `LaneModel.heads`, gives a LaneSet in frame pixels. Heads
that hold NaN or infinity give no lanes there, never an error; a wrong shape is a ValueError.
"""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from trt_lane.errors import TrtLaneError


def decoder_to_dict(decoder: Any) -> dict:
    """A decoder as {"name": <file in trt_lane/decoders>, <field>: <number>, ...}."""
    if not is_dataclass(decoder):
        raise TypeError(f"{decoder!r} is not a decoder dataclass")
    return {"name": type(decoder).__module__.rpartition(".")[2], **asdict(decoder)}


def decoder_from_dict(numbers: dict) -> Any:
    """The inverse of `decoder_to_dict`; lists become tuples."""
    fields = {k: _to_tuple(v) for k, v in numbers.items() if k != "name"}
    name = numbers.get("name")
    known = sorted(m.name for m in iter_modules(__path__) if m.name[0] != "_")
    if name not in known:
        raise TrtLaneError(f"no decoder {name!r}; known decoders: {', '.join(known)}")
    try:
        return import_module(f"{__name__}.{name}").DECODER(**fields)
    except (TypeError, ValueError) as error:
        raise TrtLaneError(f"numbers do not fit the decoder {name!r}: {error}") from None


def _to_tuple(value: Any) -> Any:
    return tuple(_to_tuple(v) for v in value) if isinstance(value, list) else value
