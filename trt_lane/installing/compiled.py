"""Compiled decoders on a vehicle: the bundle's library, or one made of its sources, or none."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from trt_lane.building.recipe import BuilderKind
from trt_lane.bundle.manifest import Manifest
from trt_lane.errors import TrtLaneError
from trt_lane.plugin_library import HOST_NAME, PLUGINS_NAME, PluginLibrary

NUMPY = "numpy"
_COMPILE_SECONDS = 900
# As `make plugins-host` has it: nothing fused, so that results are numpy's.
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
)


def compiled_decoders(
    folder: Path,
    manifest: Manifest,
    progress: Callable[[str, float | None, float], None] | None = None,
) -> tuple[Path | None, str]:
    """The library with the model's decoder for this machine.

    Args:
        folder: the unpacked bundle; gets the library.
        manifest: of it.
        progress: told what is being done.

    Returns:
        The library, or None when numpy decodes; and which of them it is, for people.
    """
    decoder = str(manifest.decoder["name"])
    given = folder / "library" / PLUGINS_NAME
    if given.is_file():
        library = folder / PLUGINS_NAME
        os.replace(given, library)
        return _checked(library, decoder, "the bundle's library")
    if f"plugins/{decoder}/{decoder}.h" not in manifest.files:
        return None, f"{NUMPY}: the bundle has no compiled {decoder}"
    if progress is not None:
        progress("compiling the decoders", None, 0.0)
    on_gpu = manifest.recipe.builder is not BuilderKind.ONNXRUNTIME
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if on_gpu and nvcc and shutil.which("cmake"):
        library, commands = folder / PLUGINS_NAME, _cuda_commands(folder, manifest, nvcc)
    elif shutil.which("g++"):
        library, commands = folder / HOST_NAME, [_host_command(folder, folder / HOST_NAME)]
    else:
        return None, f"{NUMPY}: no compiler here"
    return _compile(commands, folder, library, decoder)


def _compile(
    commands: list[list[str]], folder: Path, library: Path, decoder: str
) -> tuple[Path | None, str]:
    start = time.monotonic()
    try:
        for command in commands:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_COMPILE_SECONDS,
                check=False,
            )
            if done.returncode:
                return None, f"{NUMPY}: {Path(command[0]).name} failed: {_reason(done.stderr)}"
    except subprocess.TimeoutExpired:
        return None, f"{NUMPY}: the compiler took more than {_COMPILE_SECONDS} s"
    built = folder / "compiled" / PLUGINS_NAME
    if built.is_file():
        os.replace(built, library)
    shutil.rmtree(folder / "compiled", ignore_errors=True)
    return _checked(library, decoder, f"compiled here in {time.monotonic() - start:.0f} s")


def _reason(stderr: str) -> str:
    """The first line of a compiler's output that says error, else its last one."""
    lines = stderr.strip().splitlines() or ["no reason given"]
    return next((line for line in lines if "error" in line.lower()), lines[-1]).strip()


def _checked(library: Path, decoder: str, origin: str) -> tuple[Path | None, str]:
    """The library when it loads and has the decoder; another machine's is no reason to fail."""
    try:
        known = PluginLibrary(library).decoders
    except TrtLaneError as error:
        return None, f"{NUMPY}: {error}"
    if decoder not in known:
        return None, f"{NUMPY}: {origin} has no {decoder}"
    return library, origin


def _host_command(folder: Path, library: Path) -> list[str]:
    plugins = folder / "plugins"
    sources = [plugins / "host.cpp", plugins / "common" / "registry.cpp"]
    includes = [f"-I{plugins}", f"-I{plugins / 'generated'}"]
    return ["g++", *_FLAGS, *includes, *map(str, sources), "-o", str(library)]


def _cuda_commands(folder: Path, manifest: Manifest, nvcc: str) -> list[list[str]]:
    build = str(folder / "compiled")
    capabilities = ";".join(map(str, manifest.recipe.compute_capabilities))
    options = [f"-DTRT_LANE_SM={capabilities}"] if capabilities else []
    return [
        ["cmake", "-S", str(folder / "plugins"), "-B", build, f"-DCMAKE_CUDA_COMPILER={nvcc}",
         *options],
        ["cmake", "--build", build],
    ]  # fmt: skip
