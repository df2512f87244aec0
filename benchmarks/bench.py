"""One benchmark from engine to report: environment, latency, scenarios, accuracy, layers."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import judge
from benchmarks.bench_report import BenchmarkReport
from benchmarks.cell_specs import short_spec
from benchmarks.environment import Environment, EnvironmentReader, cpu_seconds, git_commit
from benchmarks.float_graph import check_float_graph
from benchmarks.latency import Latency
from benchmarks.layer_times import layer_times, with_times
from benchmarks.machine import usable_cores
from benchmarks.measure import ROOT, Conditions, Subject, measure, read_frames
from benchmarks.other_code import OtherCode
from benchmarks.scenarios import all_scenarios, single_stream
from benchmarks.worst_frames import worst_frames
from engines.build import LAYERS_NAME, read_layers
from engines.card import read_card, read_onnx
from engines.graph_runner import GraphRunner
from trt_lane.artifact import EngineArtifact
from trt_lane.datasets import open_dataset
from trt_lane.datasets.base import Dataset
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit, fit_frame
from trt_lane.frame_results import spread_indices
from trt_lane.progress import progress

Say = Callable[[str], None]
ONNX_NAME = "model.onnx"  # as the Makefile has it
LATENCY_FRAMES = 16  # enough different roads that lanes, and with them decoding, vary


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        artifact: folder of the engine.
        data: spec of the data set.
        frames: for the accuracy, at most so many, spread evenly; 0 leaves it out.
        float_onnx: FP32 graph of the same weights, or None.
        conditions: of the latency.
        scenario_seconds: of each scenario; 0 leaves them out.
        code: repository whose detector is timed and judged; scenarios are of this one's.
    """

    artifact: Path
    data: str
    frames: int
    float_onnx: Path | None
    conditions: Conditions
    scenario_seconds: float = 2.0
    code: Path = ROOT

    def __post_init__(self) -> None:
        if self.frames < 0 or not 0 <= self.scenario_seconds < 3600:
            raise TrtLaneError(
                f"frames is {self.frames}, scenario seconds {self.scenario_seconds}; "
                "expected 0 or more"
            )


def bench(plan: Plan, say: Say = lambda line: None) -> BenchmarkReport:
    """Measure it all; the latency first, while nothing else of ours runs."""
    return bench_in_turn([plan], say)[0]


def bench_in_turn(plans: Sequence[Plan], say: Say = lambda line: None) -> list[BenchmarkReport]:
    """Several engines on the same frames, their new processes by turns: one report each.

    Raises:
        TrtLaneError: plans of two models or runtimes, of other frames or threads.
    """
    first = plans[0]
    artifacts = [EngineArtifact.load(plan.artifact) for plan in plans]
    runtimes = {f"{a.runtime} {a.built_with}" for a in artifacts}
    models = sorted({artifact.model for artifact in artifacts})
    if len(models) > 1:
        raise TrtLaneError(f"engines of {', '.join(models)}; expected one model")
    shared = {(p.data, p.frames, p.conditions.threads) for p in plans}
    if len(runtimes) > 1 or len(shared) > 1:
        raise TrtLaneError(
            f"engines for {', '.join(sorted(runtimes))}, frames and threads {sorted(shared)}; "
            "expected one runtime, the same frames and threads for all"
        )
    for plan, artifact in zip(plans, artifacts, strict=True):
        if plan.float_onnx is not None:
            check_float_graph(plan.float_onnx, artifact)
    dataset = open_dataset(first.data)
    frames, capture_ms, _ = read_frames(dataset, LATENCY_FRAMES)
    from_files = not first.data.startswith("synthetic")  # rendering is no capture
    subjects = [Subject(a, p.conditions, p.code) for a, p in zip(artifacts, plans, strict=True)]
    with EnvironmentReader(first.conditions.threads, runtimes.pop()) as reader:
        own = cpu_seconds()
        say(f"latency    {first.conditions.starts} new processes, {len(frames)} frames …")
        with reader.watching():
            latencies = measure(subjects, frames, capture_ms if from_files else ())
        environment = reader.environment(cpu_seconds() - own)
    if len(plans) > 1:  # one counter cannot tell whose energy it was
        states = tuple(replace(state, energy_j=None, power_w=None) for state in environment.states)
        environment = replace(environment, states=states)
    return [
        _report(plan, artifact, latency, environment, dataset, frames, say)
        for plan, artifact, latency in zip(plans, artifacts, latencies, strict=True)
    ]


def _report(
    plan: Plan,
    artifact: EngineArtifact,
    latency: Latency,
    environment: Environment,
    dataset: Dataset,
    frames: list[np.ndarray],
    say: Say,
) -> BenchmarkReport:
    scenarios = [single_stream(latency)]
    if plan.scenario_seconds:
        say("scenarios  cameras, offline …")
        scenarios = _scenarios(artifact, latency, frames, plan)
    judged, pictures = None, []
    if plan.frames:
        say(f"accuracy   {min(plan.frames, len(dataset))} frames of {dataset.spec} …")
        judged, pictures = _accuracy(artifact, dataset, plan)
    if plan.code != ROOT:
        environment = replace(environment, git=git_commit(plan.code))
    sizes = {"engine": artifact.engine_path.stat().st_size}
    if plan.float_onnx is not None:
        sizes["float_onnx"] = plan.float_onnx.stat().st_size
    return BenchmarkReport(
        artifact.model,
        _recipe(artifact),
        artifact.target,
        artifact.precision,
        f"{artifact.runtime} {artifact.built_with}",
        datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        dict(artifact.digests),
        sizes,
        {
            **plan.conditions.to_dict(),
            "data": short_spec(dataset.spec),
            "latency_frames": len(frames),
            "frames_sha256": _digest(frames),
        },
        environment,
        latency,
        tuple(scenarios),
        judged,
        tuple(_layers(artifact, frames[0], plan.conditions.threads)),
        tuple(pictures),
    )


def _digest(frames: Sequence[np.ndarray]) -> str:
    sha = hashlib.sha256()
    for frame in frames:
        sha.update(str(frame.shape).encode())
        sha.update(np.ascontiguousarray(frame))
    return sha.hexdigest()


def _layers(artifact: EngineArtifact, frame: np.ndarray, threads: int) -> list[dict]:
    """The layer table, with times where the runtime tells them; empty without a table."""
    path = artifact.folder / LAYERS_NAME
    if not path.is_file():
        return []
    layers = [record.to_dict() for record in read_layers(path)]
    if artifact.runtime != "onnxruntime":
        return layers
    fitted = fit_frame(frame, artifact.image, Fit.CROP).frame
    image = np.repeat(artifact.image.to_tensor(fitted)[None], artifact.batch, axis=0)
    return with_times(layers, layer_times(artifact, image, threads))


def _recipe(artifact: EngineArtifact) -> str | None:
    """Its name as the sidecar says, else the ONNX beside it; None for a float network."""
    if artifact.info.get("recipe"):
        return str(artifact.info["recipe"])
    path = artifact.folder / ONNX_NAME
    card = read_card(read_onnx(path)) if path.is_file() else None
    return card.recipe if card else None


def _scenarios(artifact: EngineArtifact, latency: Latency, frames: list, plan: Plan) -> list:
    def opened(threads: int | None) -> LaneDetector:
        return LaneDetector.load(artifact.folder, threads=threads, fit=Fit.CROP)

    workers = usable_cores() if artifact.runtime == "onnxruntime" else 1
    return all_scenarios(
        latency, opened, plan.conditions.threads, workers, frames, plan.scenario_seconds
    )


def _accuracy(artifact: EngineArtifact, dataset: Dataset, plan: Plan) -> tuple:
    indices = spread_indices(len(dataset), plan.frames)
    threads = plan.conditions.threads
    if plan.code == ROOT:
        engine = LaneDetector.load(artifact.folder, threads=threads, fit=Fit.CROP)
    else:
        engine = OtherCode(plan.code, artifact, threads)
    detectors = {"engine": engine}
    if plan.float_onnx is not None:
        graph = FloatGraph(plan.float_onnx, artifact, threads)
        detectors["float"] = LaneDetector(artifact, graph, Fit.CROP)
    try:
        judged = judge(detectors, dataset, progress(indices, len(indices), "accuracy"))
    finally:
        for detector in detectors.values():
            detector.close()
    return judged.accuracy, worst_frames(judged, dataset)


class FloatGraph:
    """The float graph in the place of an engine, in the same detector."""

    def __init__(self, path: Path, artifact: EngineArtifact, threads: int | None = None) -> None:
        self._runner = GraphRunner(path, threads)
        self._heads = [head.name for head in artifact.heads]

    def infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Heads without the batch axis."""
        found = self._runner(image)
        return {name: np.asarray(found[name][0], np.float32) for name in self._heads}

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Heads of a batch, image by image: the float graph takes one."""
        found = [self.infer(image[None]) for image in images]
        return {name: np.stack([heads[name] for heads in found]) for name in self._heads}

    def close(self) -> None:
        """Nothing is held."""
