"""The child process that drives TensorRT's builder: `python -m trt_lane.building.process JOB.json`.

A builder can abort the whole process (an unknown plugin does it in TensorRT-RTX), so it never runs
in ours. On stdout it writes one JSON object a line: {"phase", "step", "steps"} while building, at
the end {"done": {...}} or {"error": text}. Everything that TensorRT logs goes to the job's log.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from trt_lane.backends.cuda_driver import CudaDriver
from trt_lane.building import compat
from trt_lane.building.recipe import BuilderKind, BuildRecipe
from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json, write_bytes, write_json


def main(job_path: str) -> int:
    """Carry out one build; 0 when the engine was written."""
    try:
        _say(done=_build(read_json(job_path)))
    except TrtLaneError as error:
        _say(error=str(error))
        return 2
    except OSError as error:  # a full disk under the log
        place = f" ({error.filename})" if error.filename else ""
        _say(error=f"{error.strerror or error}{place}; free space or choose another folder")
        return 2
    return 0


def _build(job: dict) -> dict:
    recipe = BuildRecipe.from_dict(job["recipe"])
    trt = compat.load_builder(recipe)
    with open(job["log"], "w", encoding="utf-8") as log_file:
        logger = _logger(trt, log_file)
        _load_plugins(trt, logger, job["plugin_library"])
        builder = trt.Builder(logger)
        network = builder.create_network(compat.network_flags(trt))
        parser = trt.OnnxParser(network, logger)
        # By path, so that weights in external files are found.
        if not parser.parse_from_file(job["onnx"]):
            reasons = [str(parser.get_error(i)).strip() for i in range(parser.num_errors)]
            raise TrtLaneError(
                f"{recipe.builder.value} cannot read {job['onnx']}: "
                f"{(reasons or ['no reason given'])[0]}; run: python -m engines lint {job['onnx']}"
            )
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if recipe.builder is BuilderKind.TENSORRT_RTX:
            compat.set_compute_capabilities(trt, config, recipe.compute_capabilities)
        if compat.has_progress_monitor(trt):
            config.progress_monitor = monitor = _monitor(trt)  # noqa: F841 - must stay alive
        cache = _use_timing_cache(trt, recipe.builder, config, job["timing_cache"])
        engine = builder.build_serialized_network(network, config)
        if logger.failure is not None:  # the layer table is read from the log
            raise logger.failure
        if engine is None:
            raise TrtLaneError(f"{recipe.builder.value} found no way to build {job['onnx']}")
        write_bytes(job["engine"], memoryview(engine))
        if cache is not None:
            with suppress(TrtLaneError):  # a build without its cache is still a build
                write_bytes(job["timing_cache"], memoryview(cache.serialize()))
        capabilities = list(recipe.compute_capabilities)
        if recipe.builder is BuilderKind.TENSORRT:
            capabilities = [_inspect(trt, logger, engine, job)]
        return {
            "version": trt.__version__,
            "cuda": compat.cuda_version(recipe.builder),
            "compute_capabilities": capabilities,
        }


def _logger(trt: Any, file: Any) -> Any:
    class FileLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.failure: OSError | None = None

        def log(self, severity: Any, text: str) -> None:
            level = str(severity).rpartition(".")[2]
            # Line by line on disk: the last line before a crash is the one that matters.
            try:
                file.write(f"[{level}] {text}\n")
                file.flush()
            except OSError as error:  # raised here it would unwind through the builder
                self.failure = error

    return FileLogger()


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.roots: set[str] = set()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps[name] = steps
            if parent is None:
                self.roots.add(name)
                _say(phase=name, step=0, steps=steps)

        def phase_finish(self, name: str) -> None:
            if name in self.roots:
                _say(phase=name, step=self.steps[name], steps=self.steps[name])

        def step_complete(self, name: str, step: int) -> bool:
            if name in self.roots:
                _say(phase=name, step=step + 1, steps=self.steps[name])
            return True

    return Monitor()


def _load_plugins(trt: Any, logger: Any, library: str | None) -> None:
    if library is None:
        return
    trt.init_libnvinfer_plugins(logger, "")
    if trt.get_plugin_registry().load_library(library) is None:
        raise TrtLaneError(f"TensorRT {trt.__version__} cannot load the plugins of {library}")


def _use_timing_cache(trt: Any, kind: BuilderKind, config: Any, path: str | None) -> Any:
    if path is None or not compat.has_timing_cache(trt, kind):
        return None
    stored = Path(path).read_bytes() if Path(path).is_file() else b""
    cache = config.create_timing_cache(stored)
    if not config.set_timing_cache(cache, False) and stored:
        # Another GPU or TensorRT wrote it: begin a new one.
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _inspect(trt: Any, logger: Any, engine: Any, job: dict) -> int:
    """Write the inspector's report; the compute capability of the GPU that built the engine."""
    driver = CudaDriver()
    driver.retain()
    with driver.current():
        loaded = trt.Runtime(logger).deserialize_cuda_engine(engine)
        inspector = loaded.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        write_json(job["inspector"], json.loads(text))
        del inspector, loaded
    driver.release()
    return driver.compute_capability


def _say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
