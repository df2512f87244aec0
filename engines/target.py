"""Target: for which device an engine is built, and with what."""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from trt_lane.building.recipe import BuilderKind, BuildRecipe
from trt_lane.errors import TrtLaneError
from trt_lane.toml_files import read_named

_FOLDER = Path(__file__).parent / "targets"


class FloatType(str, Enum):
    """Type of everything that is not INT8."""

    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True)
class Target:
    """A device and its builder.

    Attributes:
        name: file stem in engines/targets.
        description: one line for people.
        builder: what builds the engine.
        float_type: type of the tensors that are not INT8, in the ONNX already (strongly typed).
        compute_capabilities: as major * 10 + minor (87 = sm_87). Empty: those of the GPU found when
            building; nothing for a CPU.
        version_range: builder versions from (first, inclusive) to (second, exclusive), as "10.3".
        on_device: the engine can only be built on the device itself.
        machine: platform.machine() of the device, "" for any.
    """

    name: str
    description: str
    builder: BuilderKind
    float_type: FloatType
    compute_capabilities: tuple[int, ...] = ()
    version_range: tuple[str, str] = ("0", "9999")
    on_device: bool = False
    machine: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "float_type", FloatType(self.float_type))
        for name in ("builder", "compute_capabilities", "version_range"):
            object.__setattr__(self, name, getattr(self.recipe, name))

    @property
    def recipe(self) -> BuildRecipe:
        """What the builder must know of it."""
        return BuildRecipe(
            self.name, self.builder, self.compute_capabilities, self.version_range, self.machine
        )

    def accepts(self, version: str) -> bool:
        """Whether a builder of that version may build for this target."""
        return self.recipe.accepts(version)


def list_targets() -> list[str]:
    """Names of the known targets, sorted."""
    return sorted(p.stem for p in _FOLDER.glob("*.toml"))


def load_target(name: str) -> Target:
    """The target of that name."""
    if name not in list_targets():
        raise TrtLaneError(
            f"no target {name!r}; known targets: {', '.join(list_targets())}. "
            f"To add one, write engines/targets/{name}.toml"
        )
    return read_target(_FOLDER / f"{name}.toml")


def read_target(path: Path) -> Target:
    """A target from its TOML file; unknown or missing keys and wrong values are errors."""
    return read_named(Target, path)


def default_target() -> str:
    """The local GPU where TensorRT and a GPU are here, else RTX ahead of time, else the CPU."""
    if importlib.util.find_spec("tensorrt") and gpu_is_visible():
        return "local"
    here = (sys.platform, platform.machine().lower())
    on_pc = here in (("linux", "x86_64"), ("linux", "amd64"))
    if on_pc and importlib.util.find_spec("tensorrt_rtx"):
        return "rtx"
    return "cpu"


@cache
def gpu_is_visible() -> bool:
    """Whether the NVIDIA driver answers and counts at least one device."""
    import ctypes

    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        not driver.cuInit(0)
        and not driver.cuDeviceGetCount(ctypes.byref(count))
        and count.value > 0
    )
