"""What an installation must know of the machine, and the refusal of what does not fit."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from trt_lane.artifact import EngineArtifact
from trt_lane.building.recipe import BuilderKind, BuildRecipe
from trt_lane.bundle.manifest import Needs
from trt_lane.errors import TrtLaneError

_DISTRIBUTIONS = {
    BuilderKind.ONNXRUNTIME: ("onnxruntime", "onnxruntime-gpu"),
    BuilderKind.TENSORRT: ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    BuilderKind.TENSORRT_RTX: ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
}
_MODULES = {
    BuilderKind.ONNXRUNTIME: "onnxruntime",
    BuilderKind.TENSORRT: "tensorrt",
    BuilderKind.TENSORRT_RTX: "tensorrt_rtx",
}
# CUdevice_attribute
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class MachineFacts:
    """The machine as an installation sees it.

    Attributes:
        machine: platform.machine(), lower case.
        builder_version: of the recipe's builder, None when it is not installed.
        compute_capability: of the first GPU, 87 for sm_87; None without one.
        disk_bytes: free under the root.
        memory_bytes: that a program can still get.
    """

    machine: str
    builder_version: str | None
    compute_capability: int | None
    disk_bytes: int
    memory_bytes: int


def read_facts(root: Path, builder: BuilderKind) -> MachineFacts:
    """Look at this machine; needs no GPU and loads no runtime."""
    return MachineFacts(
        platform.machine().lower(),
        builder_version(builder),
        compute_capability(),
        shutil.disk_usage(root).free,
        _available_memory(),
    )


def check_machine(recipe: BuildRecipe, needs: Needs, facts: MachineFacts) -> None:
    """Refuse a bundle that this machine cannot build or run.

    Raises:
        TrtLaneError: another machine, builder version or GPU, too little disk or memory.
    """
    if recipe.machine and facts.machine not in (recipe.machine, _SAME.get(recipe.machine)):
        raise TrtLaneError(
            f"the bundle is for {recipe.target} on {recipe.machine}, this is {facts.machine}; "
            "make one for this device: make bundle TARGET=…"
        )
    module, (low, high) = _MODULES[recipe.builder], recipe.version_range
    if facts.builder_version is None:
        raise TrtLaneError(
            f"the bundle needs {module} from {low} up to but not {high}, which is not installed "
            "here; on Jetson and DRIVE it comes with the system: use its Python"
        )
    if not recipe.accepts(facts.builder_version):
        raise TrtLaneError(
            f"the bundle needs {module} from {low} up to but not {high}, here is "
            f"{facts.builder_version}; update the system or make another bundle"
        )
    gpus = recipe.compute_capabilities
    if recipe.builder is not BuilderKind.ONNXRUNTIME:
        here = "no GPU" if facts.compute_capability is None else f"sm_{facts.compute_capability}"
        if facts.compute_capability is None or (gpus and facts.compute_capability not in gpus):
            wanted = ", ".join(f"sm_{c}" for c in gpus) or "an NVIDIA GPU"
            raise TrtLaneError(
                f"the bundle is for {recipe.target} ({wanted}), here is {here}; "
                "make one for this device: make bundle TARGET=…"
            )
    for what, needed, found, remedy in (
        ("disk space", needs.disk_bytes, facts.disk_bytes, "free some or choose another --root"),
        ("memory", needs.memory_bytes, facts.memory_bytes, "end other programs"),
    ):
        if found < needed:
            raise TrtLaneError(
                f"the installation takes {needed >> 20} MiB of {what}, {found >> 20} MiB are "
                f"free; {remedy}"
            )


def check_engine(artifact: EngineArtifact) -> None:
    """Refuse an engine that the runtime or the GPU of this machine does not take (any more).

    Raises:
        TrtLaneError: the runtime is gone, of another version, or on another GPU.
    """
    builder = BuilderKind(artifact.runtime)
    version = builder_version(builder)
    if version is None:
        raise TrtLaneError(
            f"{artifact.folder.name} needs {_MODULES[builder]}, which is not installed here"
        )
    artifact.check_runtime(version, compute_capability() if artifact.compute_capabilities else None)


_SAME = {"x86_64": "amd64", "aarch64": "arm64"}


def builder_version(builder: BuilderKind) -> str | None:
    """Version of a builder without loading it, or None; Jetson's has no metadata at times."""
    for name in _DISTRIBUTIONS[builder]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        module = __import__(_MODULES[builder])
    except (ImportError, OSError):
        return None
    version = getattr(module, "__version__", None)  # a folder of that name is a module, too
    return None if version is None else str(version)


def compute_capability(device: int = 0) -> int | None:
    """Of a GPU, 87 for sm_87, by the driver's own library; None without a driver or a GPU."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device):
        return None
    for value, attribute in ((major, _MAJOR), (minor, _MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle):
            return None
    return 10 * major.value + minor.value


def _available_memory(text: str | None = None) -> int:
    """Bytes of MemAvailable; without /proc nothing is known, and nothing is refused."""
    if text is None:
        try:
            text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
        except OSError:
            return sys.maxsize
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable":
            return int(value.split()[0]) * 1024
    return sys.maxsize
