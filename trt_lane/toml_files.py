"""Reading TOML files, and values that are a file each."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from trt_lane.errors import TrtLaneError

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8 or not TOML.
    """
    # Not with the module: a vehicle, which reads no TOML, may lack tomli.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    return tomllib.loads(path.read_text(encoding="utf-8"))


def read_named(kind: type[T], path: Path) -> T:
    """A dataclass of a TOML file, with the file's stem as its `name`.

    Raises:
        TrtLaneError: the file cannot be read, has unknown or lacks needed keys, or has a value that
            the dataclass refuses.
    """
    try:
        table = read_toml(path)
    except (OSError, ValueError) as error:
        raise TrtLaneError(f"cannot read the {kind.__name__.lower()} {path}: {error}") from None
    known = [f.name for f in fields(kind) if f.name != "name"]
    unknown = sorted(table.keys() - set(known))
    if unknown:
        raise TrtLaneError(
            f"{path.name} has unknown key {unknown[0]!r}; known keys: {', '.join(known)}"
        )
    try:
        return kind(name=path.stem, **table)
    except (TypeError, ValueError) as error:
        raise TrtLaneError(f"{path.name}: {error}") from None
