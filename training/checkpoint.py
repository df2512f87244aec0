"""The state of an interrupted training on disk: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trt_lane.errors import TrtLaneError
from trt_lane.files import atomic_write

SCHEMA = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and strings atomically."""
    with atomic_write(path) as file:
        torch.save({"schema": SCHEMA, **state}, file)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None when there is none, a TrtLaneError when it is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:
        # Damaged bytes can raise anything in an unpickler; nothing here but the file is at fault.
        reason = str(error).partition("\n")[0]
        raise TrtLaneError(
            f"{path} is not a whole training checkpoint ({reason}); delete it to train anew"
        ) from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise TrtLaneError(f"{path} is not a training checkpoint; delete it to train anew")
    return state
