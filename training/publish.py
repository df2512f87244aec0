"""From a finished training to bundled weights: fp16 safetensors and their entry in weights.toml."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file, write_bytes

LARGEST_MIB = 12  # what the repository bundles per model
LICENCE = "Apache-2.0"
ORIGIN = "trained on trt_lane's synthetic roads by `make weights`"


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as fp16, which is how they are bundled; counters stay integers.

    Raises:
        TrtLaneError: a weight is not finite or does not fit fp16.
    """
    rounded = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    broken = [k for k, v in rounded.items() if not torch.isfinite(v.float()).all()]
    if broken:
        raise TrtLaneError(
            f"{len(broken)} weights are not finite in fp16, the first is {broken[0]}; "
            "the training diverged: lower its learning rate"
        )
    return {k: v.contiguous() for k, v in rounded.items()}


def publish(out: Path, name: str, state: dict[str, Tensor], facts: dict[str, float]) -> Path:
    """Write `<out>/<name>.safetensors` and its entry in `<out>/weights.toml`.

    Args:
        out: folder of the weights.
        name: of the model.
        state: fp16 state dict.
        facts: further numbers of the entry, such as minutes and F1.

    Returns:
        the weights file.
    """
    data = save(state)
    if len(data) >= LARGEST_MIB << 20:
        raise TrtLaneError(
            f"weights of {name} take {len(data) / 2**20:.1f} MiB; bundled ones stay below "
            f"{LARGEST_MIB} MiB: make the demo network narrower"
        )
    path = out / f"{name}.safetensors"
    write_bytes(path, data)
    entry = {
        "file": path.name,
        "sha256": sha256_file(path),
        "licence": LICENCE,
        "origin": ORIGIN,
        **facts,
    }
    toml = out / "weights.toml"
    text = toml.read_text(encoding="utf-8") if toml.exists() else ""
    write_bytes(toml, with_entry(text, name, entry).encode())
    return path


def with_entry(text: str, name: str, entry: dict[str, str | int | float]) -> str:
    """The TOML text with table `name` set to `entry`; all other lines stay as they are."""
    header = f'["{name}"]' if "." in name else f"[{name}]"
    # A basic TOML string is written as JSON writes it.
    table = [header, *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
    lines = text.rstrip().splitlines()
    try:
        start = next(i for i, line in enumerate(lines) if line.strip() == header)
    except StopIteration:
        return "\n".join([*lines, *([""] if lines else []), *table]) + "\n"
    following = range(start + 1, len(lines))
    end = next((i for i in following if lines[i].lstrip().startswith("[")), len(lines))
    tail = lines[end:]
    return "\n".join([*lines[:start], *table, *([""] if tail else []), *tail]) + "\n"
