"""What report.json must look like inside, so that an edited or damaged one is told at its place."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

# Beyond it no time, clock, count or size of ours lies, and sums of squares are still finite.
_LARGEST = 1e18


@dataclass(frozen=True)
class Each:
    """A list of one kind of values."""

    of: Any


@dataclass(frozen=True)
class Named:
    """An object with free names and one kind of values."""

    of: Any


@dataclass(frozen=True)
class Maybe:
    """A value or null; as a record's entry it may also be missing."""

    of: Any


@dataclass(frozen=True)
class OneOf:
    """An object of one of several kinds; told by the names that it has."""

    kinds: tuple[dict[str, Any], ...]


class ShapeError(ValueError):
    """Where a value is not what was expected."""


# float: a finite number, int: a whole one, str: text, object: any of these, true, false or null;
# a dict: an object with at least these names.
_TIMES = {"p50_ms": float, "p99_ms": Maybe(float), "max_ms": Maybe(float)}
_STATE = {
    "when": str,
    "at_s": float,
    "clocks_mhz": Named(float),
    "temperatures_c": Named(float),
    "throttle": Maybe(Each(str)),
    "throttle_counts": Named(int),
    **{
        name: Maybe(float)
        for name in ("power_w", "energy_j", "memory_used_mb", "load_average", "busy_cores")
    },
}
_START = {
    "ms": Each(Each(float)),
    "begun_s": Each(float),
    "round_of": Each(int),
    "canary_ms": Each(float),
    "cpu_s": float,
    "device_ms": Maybe(Each(Each(float))),
}
# Single stream, a camera, several cameras, offline: as benchmarks.scenarios makes them.
_SCENARIO = OneOf(
    (
        {"scenario": str, "p90_ms": float, "frames": int},
        {
            "scenario": str,
            "frames": int,
            "late_share": float,
            "dropped": Maybe(int),
            **_TIMES,
        },
        {"scenario": str, "queries": int, "hz": float, **_TIMES},
        {"scenario": str, "workers": int, "frames_per_s": float},
    )
)
_LAYER = {
    "name": str,
    "kind": str,
    "inputs": Each(str),
    "outputs": Each(str),
    "onnx_nodes": Each(str),
    "macs": int,
    "activation_macs": int,
    "reason": str,
    "ms": Maybe(float),
}
_PEER = OneOf(
    (
        {"name": str, "missing": str},
        {
            "name": str,
            "p50_ms": float,
            "p99_ms": Maybe(float),
            "ratio": float,
            "f1": Maybe(float),
        },
    )
)
_FORM = {
    "culane": Maybe(Each(Each(int))),
    "tusimple": Maybe(Each(Each(float))),
    "agreement": Maybe(Each(Each(int))),
    "distortion_px": Maybe(Each(float)),
}
REPORT = {
    **dict.fromkeys(("model", "target", "precision", "runtime", "made"), str),
    "recipe": Maybe(str),
    "digests": Named(str),
    "bytes": Named(int),
    "conditions": Named(object),
    "environment": {
        "facts": Named(object),
        "versions": Named(str),
        "git": str,
        "states": Each(_STATE),
        "own_cores": Maybe(float),
        "busy_cores": Maybe(float),
    },
    "latency": {
        "stages": Each(str),
        "timer_ms": float,
        "capture_ms": Each(float),
        "starts": Each(_START),
    },
    "accuracy": Maybe(
        {
            "data": str,
            "data_digest": str,
            "metric": Maybe(str),
            "frames": Each(str),
            "categories": Each(str),
            "forms": Named(_FORM),
        }
    ),
    "scenarios": Each(_SCENARIO),
    "layers": Each(_LAYER),
    "pictures": Each({"name": str, "caption": str, "jpeg": str}),
    "peers": Each(_PEER),
}


def check(value: Any, shape: Any = REPORT, place: str = "") -> None:
    """Compare parsed JSON with a shape.

    Raises:
        ShapeError: with the first place that differs, as "latency.starts[0].ms".
    """
    if isinstance(shape, Maybe):
        if value is not None:
            check(value, shape.of, place)
    elif isinstance(shape, Each):
        _expect(isinstance(value, list), place, "a list")
        for number, entry in enumerate(value):
            check(entry, shape.of, f"{place}[{number}]")
    elif isinstance(shape, Named):
        _expect(isinstance(value, dict), place, "an object")
        for name, entry in value.items():
            check(name, str, f"a name in {place}")
            check(entry, shape.of, f"{place}.{name}")
    elif isinstance(shape, OneOf):
        _expect(isinstance(value, dict), place, "an object")
        kinds = [k for k in shape.kinds if all(n in value for n in k if not _may_miss(k[n]))]
        _expect(bool(kinds), place, " or ".join(", ".join(kind) for kind in shape.kinds))
        check(value, kinds[0], place)
    elif isinstance(shape, dict):
        _expect(isinstance(value, dict), place, "an object")
        for name, inner in shape.items():
            there = name in value
            where = f"{place}.{name}".lstrip(".")
            _expect(there or _may_miss(inner), where, "a value: it is missing")
            if there:
                check(value[name], inner, where)
    elif shape is str or (shape is object and isinstance(value, str)):
        # JSON can hold half a character, which no page can.
        whole = isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)
        _expect(whole, place, "text")
    elif shape is object and (value is None or isinstance(value, bool)):
        pass
    else:
        whole = isinstance(value, int) and not isinstance(value, bool)
        kind = "a whole number" if shape is int else "a finite number"
        _expect(whole or (shape is not int and isinstance(value, float)), place, kind)
        _expect(abs(value) <= _LARGEST and isfinite(value), place, kind)


def _may_miss(shape: Any) -> bool:
    return isinstance(shape, Maybe)


def _expect(true: bool, place: str, what: str) -> None:
    if not true:
        raise ShapeError(f"{place or 'it'}: expected {what}")
