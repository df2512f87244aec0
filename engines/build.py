"""Build an engine from a typed Q/DQ ONNX, in a child process, and say what its layers run in."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from engines.attach import prepared
from engines.card import read_onnx
from engines.inspect import (
    optimised_by_onnxruntime,
    table_from_inspector,
    table_from_onnxruntime,
    table_from_rtx_log,
)
from engines.layer_table import LayerRecord
from engines.target import Target, gpu_is_visible
from trt_lane.building.child import Progress, run_builder
from trt_lane.building.recipe import BuilderKind
from trt_lane.errors import TrtLaneError
from trt_lane.files import check_writable, read_json, write_bytes, write_json

LAYERS_NAME, LOG_NAME = "layers.json", "build.log"
LAYERS_SCHEMA = 1


@dataclass(frozen=True)
class BuildResult:
    """What a build left behind.

    Attributes:
        engine, layers, log: files in the output folder.
        table: the layer table that `layers` holds.
        builder_version: of TensorRT, TensorRT-RTX or ONNX Runtime.
        cuda: CUDA version that the builder was made for, "" for a CPU.
        compute_capabilities: GPUs that the engine runs on; empty for a CPU.
        notes: what differs from the ONNX, one sentence each.
        seconds: wall time.
    """

    engine: Path
    layers: Path
    log: Path
    table: list[LayerRecord]
    builder_version: str
    cuda: str
    compute_capabilities: tuple[int, ...]
    notes: tuple[str, ...]
    seconds: float


def build(
    onnx_path: Path,
    target: Target,
    out_dir: Path,
    *,
    maxima: Mapping[str, float] | None = None,
    plugin_library: Path | None = None,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Build the engine of a typed ONNX for a target.

    Args:
        onnx_path: explicit Q/DQ or float graph whose types are final (strongly typed).
        target: device and builder.
        out_dir: gets engine, layers.json and build.log; an old engine stays until the new is whole.
        maxima: ScaleTable.maxima; the CPU graph takes steps for additions from it.
        plugin_library: shared library with the plugins that the graph uses (TensorRT only).
        timing_cache: file that speeds up the next build where the builder times tactics.
        progress: called several times a second at most, from this thread.

    Raises:
        TrtLaneError: the target cannot be built here, or the builder refused the graph or died.
    """
    start = time.monotonic()
    _check_machine(target, onnx_path)
    model, prepared_note = prepared(read_onnx(onnx_path), target, plugin_library)
    _check_operators(model, target, plugin_library)
    log = out_dir / LOG_NAME
    check_writable(log)
    notes = (prepared_note,) if prepared_note else ()
    if target.builder is BuilderKind.ONNXRUNTIME:
        engine, table, version, lowered = _build_cpu(model, target, out_dir, maxima or {})
        notes += lowered
        cuda, capabilities = "", ()
    else:
        engine, table, done = _build_tensorrt(
            model, target, out_dir, plugin_library, timing_cache, progress
        )
        version, cuda = done["version"], done["cuda"]
        capabilities = tuple(done["compute_capabilities"])
    layers = out_dir / LAYERS_NAME
    write_json(layers, {"schema": LAYERS_SCHEMA, "layers": [r.to_dict() for r in table]})
    seconds = time.monotonic() - start
    return BuildResult(engine, layers, log, table, version, cuda, capabilities, notes, seconds)


def read_layers(path: Path) -> list[LayerRecord]:
    """The layer table that `build` wrote."""
    if not path.is_file():
        raise TrtLaneError(f"no layer table {path}; expected the folder of python -m engines build")
    values = read_json(path)
    try:
        if values["schema"] != LAYERS_SCHEMA:
            raise TrtLaneError(
                f"{path} has schema {values['schema']}, expected {LAYERS_SCHEMA}; build again"
            )
        return [LayerRecord.from_dict(v) for v in values["layers"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise TrtLaneError(f"{path} is not a layer table ({error}); build again") from None


# -- checks -----------------------------------------------------------------------------------


def _check_machine(target: Target, onnx_path: Path) -> None:
    if not target.on_device:
        if target.machine and platform.machine().lower() not in (target.machine, "amd64"):
            raise TrtLaneError(
                f"target {target.name} builds on {target.machine} only, this is "
                f"{platform.machine()}; use TARGET=local with a GPU or TARGET=cpu"
            )
        return
    wrong_machine = target.machine and platform.machine().lower() != target.machine
    if wrong_machine or not gpu_is_visible():
        here = f"{platform.machine()}, {'a' if gpu_is_visible() else 'no'} GPU found"
        raise TrtLaneError(
            f"an engine for {target.name} is built on the device itself, and this machine is not "
            f"one ({here}); carry it there as one archive: make bundle MODEL=… "
            f"TARGET={target.name}, there: trt-lane install BUNDLE; or copy the project and "
            f"{onnx_path} there and run: "
            f"python -m engines build {onnx_path.name} --target {target.name} --out engine/"
        )


def _check_operators(model: onnx.ModelProto, target: Target, plugins: Path | None) -> None:
    """Refuse what the builder does not know: an unknown node aborts TensorRT-RTX's process."""
    opsets = {o.domain or "": o.version for o in model.opset_import}
    version = opsets.get("", opsets.get("ai.onnx", 1))
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, version, ""):
            continue
        if plugins is not None and target.builder is BuilderKind.TENSORRT:
            continue
        name = f"{node.domain or 'ai.onnx'}::{node.op_type}"
        advice = (
            "export the graph without the decoder node for this target"
            if target.builder is not BuilderKind.TENSORRT
            else "give its library with --plugins"
        )
        raise TrtLaneError(
            f"node {node.name!r} is {name}, which is no operator of ONNX opset {version} and which "
            f"{target.builder.value} does not know; {advice}"
        )


# -- ONNX Runtime -----------------------------------------------------------------------------


def _build_cpu(
    model: onnx.ModelProto, target: Target, out_dir: Path, maxima: Mapping[str, float]
) -> tuple[Path, list[LayerRecord], str, tuple[str, ...]]:
    import onnxruntime

    from engines.cpu_graph import lower

    version = onnxruntime.__version__
    if not target.accepts(version):
        low, high = target.version_range
        raise TrtLaneError(f"onnxruntime here is {version}; expected {low} up to but not {high}")
    graph = lower(model, maxima)
    with tempfile.TemporaryDirectory(prefix=".build.", dir=out_dir) as folder:
        draft = Path(folder) / "draft.onnx"
        draft.write_bytes(graph.model.SerializeToString(deterministic=True))
        try:
            optimised = optimised_by_onnxruntime(draft)
        except Exception as error:  # onnxruntime's errors share no base class
            raise TrtLaneError(f"ONNX Runtime {version} refuses the graph: {error}") from None
    table = table_from_onnxruntime(optimised, graph.model, model, graph.in_float)
    notes = tuple(
        f"{r.tensor} is rounded to 8 bits with step {r.step:.4g} where the Q/DQ graph reads it in "
        f"float: adds {r.step / 12**0.5:.2g} RMS"
        for r in graph.roundings
    )
    write_bytes(
        out_dir / LOG_NAME,
        "".join(f"{line}\n" for line in (f"onnxruntime {version}", *notes)).encode(),
    )
    engine = out_dir / target.recipe.engine_name
    write_bytes(engine, graph.model.SerializeToString(deterministic=True))
    return engine, table, version, notes


# -- TensorRT and TensorRT-RTX ----------------------------------------------------------------


def _build_tensorrt(
    model: onnx.ModelProto,
    target: Target,
    out_dir: Path,
    plugin_library: Path | None,
    timing_cache: Path | None,
    progress: Progress | None,
) -> tuple[Path, list[LayerRecord], dict]:
    log = out_dir / LOG_NAME
    with tempfile.TemporaryDirectory(prefix=".build.", dir=out_dir) as folder:
        draft, source = Path(folder) / "engine", Path(folder) / "model.onnx"
        source.write_bytes(model.SerializeToString(deterministic=True))
        job = {
            "onnx": str(source.resolve()),
            "recipe": target.recipe.to_dict(),
            "engine": str(draft.resolve()),
            "inspector": str((Path(folder) / "inspector.json").resolve()),
            "log": str(log.resolve()),
            "plugin_library": None if plugin_library is None else str(plugin_library.resolve()),
            "timing_cache": None if timing_cache is None else str(timing_cache.resolve()),
        }
        job_file = Path(folder) / "job.json"
        write_json(job_file, job)
        done = run_builder(job_file, log, target.recipe, progress)
        if target.builder is BuilderKind.TENSORRT_RTX:
            text = log.read_text(encoding="utf-8", errors="replace")
            table = table_from_rtx_log(text, model)
        else:
            table = table_from_inspector(read_json(Path(job["inspector"])), model)
        engine = out_dir / target.recipe.engine_name
        draft.replace(engine)
    return engine, table, done
