"""BuildRecipe: what builds an engine from an ONNX, and where it may do so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from trt_lane.artifact import version_numbers


class BuilderKind(str, Enum):
    """What turns the ONNX into something that runs."""

    ONNXRUNTIME = "onnxruntime"
    TENSORRT_RTX = "tensorrt_rtx"
    TENSORRT = "tensorrt"


ENGINE_NAMES = {
    BuilderKind.ONNXRUNTIME: "engine.onnx",
    BuilderKind.TENSORRT_RTX: "engine.rtx",
    BuilderKind.TENSORRT: "engine.plan",
}


@dataclass(frozen=True)
class BuildRecipe:
    """The part of a target that a builder must know.

    Attributes:
        target: its name.
        builder: what builds the engine.
        compute_capabilities: as major * 10 + minor (87 = sm_87). Empty: those of the GPU found when
            building; nothing for a CPU.
        version_range: builder versions from (first, inclusive) to (second, exclusive), as "10.3".
        machine: platform.machine() of the device, "" for any.
    """

    target: str
    builder: BuilderKind
    compute_capabilities: tuple[int, ...] = ()
    version_range: tuple[str, str] = ("0", "9999")
    machine: str = ""

    def __post_init__(self) -> None:
        # Names become parts of file names, and a recipe may come out of somebody's bundle.
        for name in (self.target, self.machine or "any"):
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ValueError(f"{name!r} is no name of a target or a machine")
        object.__setattr__(self, "builder", BuilderKind(self.builder))
        capabilities = tuple(self.compute_capabilities)
        if any(type(c) is not int or not 50 <= c <= 999 for c in capabilities):
            raise ValueError(
                f"compute_capabilities is {capabilities}; expected numbers like 87 for sm_87"
            )
        object.__setattr__(self, "compute_capabilities", capabilities)
        versions = tuple(self.version_range)
        if len(versions) != 2 or version_numbers(versions[0]) >= version_numbers(versions[1]):
            raise ValueError(f"version_range is {versions}; expected [first, first not accepted]")
        object.__setattr__(self, "version_range", versions)

    @property
    def engine_name(self) -> str:
        """File name of what comes out."""
        return ENGINE_NAMES[self.builder]

    def accepts(self, version: str) -> bool:
        """Whether a builder of that version may build for this target."""
        low, high = map(version_numbers, self.version_range)
        return low <= version_numbers(version) < high

    def runtime_range(self, version: str) -> tuple[str, str]:
        """Runtime versions that may load an engine built with `version`.

        TensorRT checks major, minor and patch when it deserialises; TensorRT-RTX is held to the
        minor version. ONNX Runtime loads an ONNX with any version in the target's range.
        """
        if self.builder is BuilderKind.ONNXRUNTIME:
            return self.version_range
        major, minor, patch = (*version_numbers(version), 0, 0)[:3]
        if self.builder is BuilderKind.TENSORRT:
            return f"{major}.{minor}.{patch}", f"{major}.{minor}.{patch + 1}"
        return f"{major}.{minor}", f"{major}.{minor + 1}"

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {**asdict(self), "builder": self.builder.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BuildRecipe:
        """The inverse of `to_dict`; unknown keys and wrong values are a TypeError or ValueError."""
        return cls(**values)
