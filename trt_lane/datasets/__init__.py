"""Frames and labels in, predictions out; `open_dataset("culane:DIR")` finds the right reader.

A kind of data set is one file here with `KIND` (the word before the colon), `ARGUMENT` (what comes
after it, for messages), `open(argument) -> Dataset` and `recognise(path) -> int`: 2 when a bare
path is surely of this kind, 1 when it may be, 0 when not.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from trt_lane.datasets.base import Dataset, Label, Sample
from trt_lane.errors import TrtLaneError

__all__ = ["Dataset", "Label", "Sample", "kinds", "open_dataset"]


def open_dataset(spec: str) -> Dataset:
    """Open a data set.

    Args:
        spec: "synthetic", "synthetic:test:500", "culane:DIR", "tusimple:DIR", "curvelanes:DIR",
            "llamas:DIR", "images:DIR", "video:FILE" or a bare path, whose kind is then recognised
            from what lies there.

    Raises:
        TrtLaneError: unknown kind, nothing there, nothing in it, or a damaged list or label.
    """
    readers = kinds()
    kind, _, argument = spec.partition(":")
    if kind in readers:
        if not argument and kind != "synthetic":
            raise TrtLaneError(f"{spec!r} says no place; expected {kind}:{readers[kind].ARGUMENT}")
        return readers[kind].open(argument)
    path = Path(spec).expanduser()
    if spec.strip() and path.exists():
        sure, reader = max(((r.recognise(path), r) for r in readers.values()), key=lambda p: p[0])
        if sure:
            return reader.open(spec)
    close = difflib.get_close_matches(kind, readers, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    found = "nothing known in" if spec.strip() and path.exists() else "no data set or path"
    forms = "; ".join(f"{name}:{reader.ARGUMENT}" for name, reader in readers.items())
    raise TrtLaneError(f"{found} {spec!r}; {hint}known kinds: {forms}")


@cache
def kinds() -> dict[str, ModuleType]:
    """Readers by the word that selects them, sorted."""
    modules = [
        import_module(f"{__name__}.{found.name}")
        for found in iter_modules(__path__)
        if not found.name.startswith("_")
    ]
    return {m.KIND: m for m in sorted(modules, key=lambda m: m.__name__) if hasattr(m, "KIND")}
