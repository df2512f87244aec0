"""What differs between the builders of TensorRT 10.3 to 11.x and of TensorRT-RTX, in one place."""

from __future__ import annotations

import re
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

from trt_lane.backends.cuda_driver import CudaDriver
from trt_lane.building.recipe import BuilderKind, BuildRecipe
from trt_lane.errors import TrtLaneError

_MODULES = {BuilderKind.TENSORRT: "tensorrt", BuilderKind.TENSORRT_RTX: "tensorrt_rtx"}
_INSTALL = {
    BuilderKind.TENSORRT: "install TensorRT (on Jetson and DRIVE it comes with the system)",
    BuilderKind.TENSORRT_RTX: "run: pip install tensorrt-rtx-cu13 (x86-64 Linux or Windows)",
}


def load_builder(recipe: BuildRecipe) -> ModuleType:
    """The builder's Python module, of a version that the target accepts."""
    name = _MODULES[recipe.builder]
    try:
        module = import_module(name)
    except (ImportError, OSError) as error:
        raise TrtLaneError(
            f"target {recipe.target} needs {name}, which does not load here ({error}); "
            f"{_INSTALL[recipe.builder]}, or choose TARGET=cpu"
        ) from None
    check_version(recipe, module.__version__)
    return module


def check_version(recipe: BuildRecipe, version: str) -> None:
    """Refuse a builder version outside the target's range."""
    if not recipe.accepts(version):
        low, high = recipe.version_range
        raise TrtLaneError(
            f"{_MODULES[recipe.builder]} here is {version}; target {recipe.target} accepts from "
            f"{low} up to but not {high}; install one of those or choose another TARGET"
        )


def network_flags(trt: Any) -> int:
    """Flags of create_network: strongly typed, which 10.x must be told and 11.x always is.

    10.x has explicit batch always on; asking for it there is a warning and an error from 11.0 on.
    """
    flag = getattr(getattr(trt, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    if flag is None:
        if _major(trt) >= 11:
            return 0
        raise TrtLaneError(
            f"this builder ({trt.__version__}) has no strongly typed networks; "
            "expected TensorRT 10.3 or newer"
        )
    return 1 << int(flag)


def has_timing_cache(trt: Any, kind: BuilderKind) -> bool:
    """Whether a timing cache speeds up the next build; RTX times nothing when it builds."""
    return kind is BuilderKind.TENSORRT and hasattr(trt, "ITimingCache")


def has_progress_monitor(trt: Any) -> bool:
    """Whether the builder reports its progress (TensorRT since 8.6, RTX)."""
    return hasattr(trt, "IProgressMonitor")


def cuda_version(kind: BuilderKind) -> str:
    """CUDA that the builder works with: "12.6" of the driver API, or "13" from the wheel's name."""
    if kind is BuilderKind.TENSORRT_RTX:
        names = (f"tensorrt-rtx-cu{major}" for major in (13, 12))
        found = next((n for n in names if _is_installed(n)), "")
        return found.rpartition("cu")[2]
    return CudaDriver().version


def set_compute_capabilities(trt: Any, config: Any, capabilities: tuple[int, ...]) -> None:
    """Tell TensorRT-RTX for which GPUs to build ahead of time."""
    known = [c for c in dir(trt.ComputeCapability) if re.fullmatch(r"SM\d+", c)]
    missing = [f"SM{c}" for c in capabilities if f"SM{c}" not in known]
    if missing:
        raise TrtLaneError(
            f"TensorRT-RTX {trt.__version__} cannot build for {missing[0]}; it knows "
            f"{', '.join(sorted(known))}"
        )
    config.num_compute_capabilities = len(capabilities)
    for i, capability in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), i)


def _major(trt: Any) -> int:
    return int(str(trt.__version__).partition(".")[0])


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
