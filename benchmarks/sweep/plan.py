"""What a sweep is made of: models x recipes x seeds x targets, and shards of frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cell_specs import ModelSpec, RecipeSpec
from benchmarks.cells import Cell, absolute_spec, code_digest, data_digest
from benchmarks.machine import versions
from engines.target import BuilderKind, load_target
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError

FLOAT = "float"
CODE = (
    *("calibrators/**/*.py", "calibrators/recipes/*.toml", "engines/**/*.py"),
    *("engines/targets/*.toml", "trt_lane/**/*.py"),
    # The commands that make an engine, and the rows that its frames become.
    *("benchmarks/sweep/plan.py", "benchmarks/sweep/tasks.py", "benchmarks/accuracy.py"),
)
# What calibrates, exports, runs and scores; OpenCV comes under either name.
PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "opencv-python", "opencv-python-headless")


@dataclass(frozen=True)
class SweepCell:
    """One engine: a model by a recipe with a seed for a target.

    Attributes:
        model: with weights and data.
        recipe: None for the float graph.
        seed: of the recipe's draws.
        target: in engines/targets; "float" for the float graph.
        calibration_frames: at most so many.
        code: digest of the sources when the sweep began; what changes meanwhile is not its own.
        versions: of the packages on the driver's machine, by name, likewise.
    """

    model: ModelSpec
    recipe: RecipeSpec | None
    seed: int
    target: str
    calibration_frames: int
    code: str
    versions: tuple[tuple[str, str], ...]

    @property
    def method(self) -> str:
        """As it stands in the report: the recipe with its factor, as in the quantisation table."""
        return FLOAT if self.recipe is None else self._of_table.method_name

    @property
    def label(self) -> str:
        """For messages."""
        if self.recipe is None:
            return f"{self.model.name} {FLOAT}"
        return f"{self._of_table.label} {self.target}"

    @property
    def _of_table(self) -> Cell:
        return Cell(self.model, self.recipe, self.seed)

    def identity(self) -> str:
        """sha256 of all that decides the engine and its rows, code, packages and data among it."""
        recipe = None
        if self.recipe is not None:
            recipe = [self.recipe.path.read_text(encoding="utf-8"), self.recipe.factor, self.seed]
        calibration = data_digest(self.model.calibration_data) if recipe else None
        parts = [
            self.model.name, self.model.weights_digest, recipe, self.target, calibration,
            self.calibration_frames if recipe else None, self.code, self.versions,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def commands(self) -> list[list[str]]:
        """What makes it in an empty folder, as words behind `python -m`."""
        model = self.model
        weights = ["--weights", str(model.weights.resolve())]
        if self.recipe is None:
            return [["engines", "export", model.name, *weights, "--out", "model.onnx"]]
        target = load_target(self.target)
        calibrate = [
            *("calibrators", model.name, *weights, "--recipe", str(self.recipe.path)),
            *("--steps-factor", repr(self.recipe.factor), "--seed", str(self.seed)),
            *("--data", absolute_spec(model.calibration_data)),
            *("--frames", str(self.calibration_frames), "--out", "scales.npz"),
        ]
        scales = ["--scales", "scales.npz", "--target", self.target]
        export = ["engines", "export", model.name, *weights, *scales, "--out", "model.onnx"]
        # Only a CPU's engine can be scored on any machine; of the others the graph is.
        if target.builder is not BuilderKind.ONNXRUNTIME:
            return [calibrate, export]
        build = ["engines", "build", "model.onnx", *scales, "--out", "engine"]
        return [calibrate, export, build]


@dataclass(frozen=True)
class Shard:
    """Frames from `start` up to `stop` of a data set."""

    data: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """For its file."""
        return f"{data_digest(self.data)[:16]}-{self.start:06d}-{self.stop:06d}"


def plan_cells(
    models: Sequence[ModelSpec],
    recipes: Sequence[RecipeSpec],
    seeds: Sequence[int],
    targets: Sequence[str],
    calibration_frames: int,
) -> list[SweepCell]:
    """All cells, a float one for each model first; seeds only where a recipe learns.

    Raises:
        TrtLaneError: a recipe or target stands there twice, or the data have no labels.
    """
    if calibration_frames < 1:
        raise TrtLaneError(f"calibration frames is {calibration_frames}; expected 1 or more")
    for name in targets:
        load_target(name)
    _check_once("targets", targets)
    cells: list[SweepCell] = []
    common = (calibration_frames, code_digest(CODE), tuple(versions(PACKAGES).items()))
    for model in models:
        if open_dataset(model.data).metric is None:
            raise TrtLaneError(f"{model.data} has no labels; a sweep needs them to score with")
        # By the names in the report: two files of one stem would be one row of it.
        _check_once("recipes", [Cell(model, recipe).method_name for recipe in recipes])
        cells.append(SweepCell(model, None, 0, FLOAT, *common))
        cells += [
            SweepCell(model, recipe, seed, target, *common)
            for recipe in recipes
            for seed in (seeds if recipe.unit else seeds[:1])
            for target in targets
        ]
    return cells


def plan_shards(data: str, size: int, frames: int | None) -> list[Shard]:
    """The data set's first `frames` frames (None: all) in shards of `size`."""
    if size < 1 or (frames is not None and frames < 1):
        raise TrtLaneError(f"shards of {size}, {frames} frames; expected 1 or more")
    total = len(open_dataset(data))
    total = total if frames is None else min(total, frames)
    spec = absolute_spec(data)
    return [Shard(spec, start, min(start + size, total)) for start in range(0, total, size)]


def engine_path(cell: SweepCell, work: Path) -> Path:
    """Where its engine is kept."""
    return work / cell.identity()[:24] / "engine.zip"


def shard_path(cell: SweepCell, shard: Shard, work: Path) -> Path:
    """Where its results on a shard are kept."""
    return work / cell.identity()[:24] / f"{shard.name}.json"


def _check_once(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TrtLaneError(f"{what}: {', '.join(twice)} more than once; expected each once")
