"""From a finished build and a model card to the EngineArtifact that a vehicle loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from engines.build import BuildResult
from engines.card import ModelCard, check_outputs
from engines.layer_table import coverage
from engines.target import Target
from trt_lane.artifact import EngineArtifact
from trt_lane.files import atomic_write, sha256_file


def package(
    result: BuildResult,
    onnx_path: Path,
    card: ModelCard,
    target: Target,
    plugin_library: Path | None = None,
    info: dict | None = None,
) -> EngineArtifact:
    """Write the sidecar of a build, after every file that it names.

    Args:
        result: of `engines.build.build` in the folder that becomes the artifact.
        onnx_path: what was built.
        card: whose geometry, heads and decoder go into the sidecar.
        target: what it was built for.
        plugin_library: copied beside the engine.
        info: further plain facts.
    """
    model = onnx.load(onnx_path, load_external_data=False)
    batch = check_outputs(model, card)
    folder = result.engine.parent
    digests = {**card.digests, "onnx": sha256_file(onnx_path), "engine": sha256_file(result.engine)}
    if plugin_library is not None:
        copied = folder / plugin_library.name
        if copied.resolve() != plugin_library.resolve():
            with open(plugin_library, "rb") as source, atomic_write(copied) as file:
                shutil.copyfileobj(source, file)
        digests["plugin_library"] = sha256_file(copied)
    share = coverage(result.table)
    artifact = EngineArtifact(
        folder=folder,
        engine=result.engine.name,
        model=card.model,
        image=card.image,
        decoder=card.decoder,
        heads=card.heads,
        input_name=model.graph.input[0].name,
        precision=card.precision,
        target=target.name,
        runtime=target.builder.value,
        built_with=result.builder_version,
        runtime_range=target.recipe.runtime_range(result.builder_version),
        cuda=result.cuda,
        compute_capabilities=result.compute_capabilities,
        digests=digests,
        plugin_library=None if plugin_library is None else plugin_library.name,
        info={
            "recipe": card.recipe,
            "int8_share": share.share,
            "macs": share.total_macs,
            "engine_bytes": result.engine.stat().st_size,
            "notes": list(result.notes),
            **(info or {}),
        },
        batch=batch,
    )
    artifact.save()
    return artifact
