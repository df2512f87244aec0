"""Official networks' outputs for weights made by rule (shared/README.md, data/network_cases).

case = load_case(shared, "ufld_r18_culane")
module = case.fill(get_model("ufld.r18_culane").build())
case.assert_agrees(case.run(module))
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

TOLERANCE = 1e-4  # of the largest output: shared/README.md


@dataclass(frozen=True)
class Case:
    """One official network: its keys, the seed of its weights and input, and its outputs.

    Attributes:
        shapes: of every official state-dict key.
        kept_as_built: parts of keys whose values stay as the constructor made them.
        stored: per output, "all" or the slice of it that is kept, such as "[..., ::8, ::8]".
        outputs: what the official network gave.
    """

    name: str
    seed: int
    input_hw: tuple[int, int]
    shapes: dict[str, tuple[int, ...]]
    kept_as_built: tuple[str, ...]
    stored: dict[str, str]
    outputs: dict[str, np.ndarray]

    def value(self, key: str) -> np.ndarray:
        """The rule's value of a key, float32."""
        shape = self.shapes[key]
        n = np.random.default_rng([zlib.crc32(key.encode()), self.seed]).standard_normal(shape)
        n = np.float32(n)
        leaf = key.rpartition(".")[2]
        if leaf == "running_var":
            return np.float32(0.5 + np.abs(n))
        if leaf == "running_mean":
            return np.float32(0.1 * n)
        if len(shape) == 1:
            return np.float32(0.8 + 0.1 * n if leaf == "weight" else 0.1 * n)
        return np.float32(n * np.sqrt(0.5 / prod(shape[1:])))

    def by_rule(self, key: str) -> bool:
        """Whether the rule sets the key."""
        kept = ("num_batches_tracked", *self.kept_as_built)
        return not any(part in key for part in kept)

    def state_dict(self, without: Iterable[str] = ()) -> dict[str, Tensor]:
        """All keys that the rule sets, but those that start with an entry of `without`."""
        prefixes = tuple(without)
        return {
            key: torch.from_numpy(self.value(key).reshape(self.shapes[key]))
            for key in self.shapes
            if self.by_rule(key) and not key.startswith(prefixes)
        }

    def fill(self, module: nn.Module, without: Iterable[str] = ()) -> nn.Module:
        """Give a module the rule's weights; its keys and shapes must be the official ones.

        Args:
            module: the re-implementation; returned in eval mode.
            without: prefixes of official keys that the module rightly lacks (training only).
        """
        prefixes = tuple(without)
        official = {
            key: shape
            for key, shape in self.shapes.items()
            if not key.startswith(prefixes) and not any(part in key for part in self.kept_as_built)
        }
        own = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        own = {k: s for k, s in own.items() if not any(part in k for part in self.kept_as_built)}
        assert own == official, _difference(own, official)
        module.load_state_dict(self.state_dict(without), strict=False)
        return module.eval()

    def image(self) -> Tensor:
        """The network input, float32 (1, 3, H, W)."""
        noise = np.random.default_rng([7, self.seed]).standard_normal((1, 3, *self.input_hw))
        return torch.from_numpy(np.float32(noise))

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's outputs on the case's input."""
        with torch.inference_mode():
            return module(self.image())

    def assert_agrees(self, outputs: Mapping[str, Tensor], names: Iterable[str] = ()) -> None:
        """Each of the official outputs (or the named ones) agrees to 1e-4 of its largest value.

        Outputs are (1, ...) tensors by the official output's name; where only a slice is stored,
        pass the whole tensor.
        """
        for name in tuple(names) or self.outputs:
            expected = self.outputs[name]
            found = sliced(outputs[name].detach().cpu().numpy(), self.stored[name])
            assert found.shape == expected.shape, f"{name}: {found.shape} not {expected.shape}"
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error <= TOLERANCE, f"{name}: off by {error:.2e} of the largest output"


def load_case(shared: Path, name: str) -> Case:
    """A case of shared/data/network_cases."""
    folder = shared / "data" / "network_cases"
    facts = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as arrays:
        outputs = {key: arrays[key] for key in arrays.files}
    return Case(
        name=name,
        seed=facts["seed"],
        input_hw=tuple(facts["input_hw"]),
        shapes={key: tuple(shape) for key, shape in facts["state_dict"].items()},
        kept_as_built=tuple(facts["kept_as_built"]),
        stored={key: output["stored"] for key, output in facts["outputs"].items()},
        outputs=outputs,
    )


def sliced(array: np.ndarray, stored: str) -> np.ndarray:
    """The part of an output that "all" or a text like "[..., ::8, ::8]" names."""
    if stored == "all":
        return array
    assert re.fullmatch(r"\[[\d\s:.,-]+\]", stored), f"not a slice: {stored}"
    index = []
    for part in stored[1:-1].split(","):
        bounds = part.strip().split(":")
        if bounds == ["..."]:
            index.append(...)
        elif len(bounds) == 1:
            index.append(int(bounds[0]))
        else:
            index.append(slice(*(int(b) if b else None for b in bounds)))
    return array[tuple(index)]


def _difference(own: dict, official: dict) -> str:
    missing = [k for k in official if k not in own]
    extra = [k for k in own if k not in official]
    shapes = [f"{k} {own[k]} not {official[k]}" for k in own if official.get(k, own[k]) != own[k]]
    return f"missing {missing[:5]}, extra {extra[:5]}, shapes {shapes[:5]}"
