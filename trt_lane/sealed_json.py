"""JSON that holds its own digest and has one spelling only: no byte of it can change unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def seal(values: Mapping[str, Any]) -> bytes:
    """The file of these values; NaN and infinity are a ValueError, as JSON has neither."""
    body = json.dumps(values, sort_keys=True, allow_nan=False)
    sealed = {**values, "digest": hashlib.sha256(body.encode()).hexdigest()}
    return (json.dumps(sealed, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def is_sealed(data: bytes, values: Mapping[str, Any]) -> bool:
    """Whether `data` is byte for byte what `seal` makes of the values."""
    try:
        return data == seal(values)
    except (ValueError, RecursionError):  # NaN, which JSON does not have and Python reads
        return False


def unseal(data: bytes) -> dict[str, Any]:
    """The values of a sealed file.

    Raises:
        ValueError: it is no JSON object, or was changed after it was written.
    """
    try:
        values = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    values.pop("digest", None)
    if not is_sealed(data, values):
        raise ValueError("it was changed after it was written")
    return values
