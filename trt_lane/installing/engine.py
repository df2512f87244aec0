"""An engine of an unpacked bundle, built by this machine's own runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from trt_lane.artifact import EngineArtifact
from trt_lane.building.child import run_builder
from trt_lane.building.recipe import BuilderKind
from trt_lane.bundle.manifest import Manifest
from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file, write_json
from trt_lane.installing.compiled import compiled_decoders

# (what is being done, share done or None, seconds so far)
Progress = Callable[[str, "float | None", float], None]


def build_engine(
    folder: Path, manifest: Manifest, version: str, timing: Path, progress: Progress | None = None
) -> EngineArtifact:
    """Build the engine into the folder, with its sidecar.

    Args:
        folder: the unpacked bundle.
        manifest: of it.
        version: of the builder here.
        timing: folder for timing caches, kept from one installation to the next.
        progress: called several times a second at most.

    Raises:
        TrtLaneError: the builder refused the graph or died.
    """
    recipe = manifest.recipe
    engine = folder / recipe.engine_name
    done = {"version": version, "cuda": "", "compute_capabilities": []}
    if recipe.builder is BuilderKind.ONNXRUNTIME:
        # The graph of integer kernels is the engine; opening it is ONNX Runtime's building.
        if manifest.graph != engine.name:
            shutil.copyfile(folder / manifest.graph, engine)
    else:
        done = _run_builder(folder, manifest, engine, timing, progress)
    library, note = compiled_decoders(folder, manifest, progress)
    artifact = manifest.artifact(
        folder,
        sha256_file(engine),
        done["version"],
        cuda=done["cuda"],
        compute_capabilities=tuple(done["compute_capabilities"]),
        plugin_library=None if library is None else (library.name, sha256_file(library)),
        info={"decoders": note, "engine_bytes": engine.stat().st_size},
    )
    artifact.save()
    return artifact


def _run_builder(
    folder: Path, manifest: Manifest, engine: Path, timing: Path, progress: Progress | None
) -> dict:
    timing.mkdir(parents=True, exist_ok=True)
    job, log = folder / "job.json", folder / "build.log"
    write_json(
        job,
        {
            "onnx": str((folder / manifest.graph).resolve()),
            "recipe": manifest.recipe.to_dict(),
            "engine": str(engine.resolve()),
            "inspector": str((folder / "layers.json").resolve()),
            "log": str(log.resolve()),
            "plugin_library": None,
            "timing_cache": str((timing / f"{manifest.recipe.target}.cache").resolve()),
        },
    )
    done = run_builder(job, log, manifest.recipe, progress)
    job.unlink()
    if not engine.is_file():
        raise TrtLaneError(f"the builder of {manifest.recipe.target} left no engine; see {log}")
    return done
