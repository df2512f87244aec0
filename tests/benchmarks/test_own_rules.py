"""Benchmark, sweep, verification and budget score CurveLanes and LLAMAS by their own rules."""

from __future__ import annotations

import io
import zipfile
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from made_label_files import llamas_label, write_curvelanes, write_llamas
from tiny_artifact import DECODER, IMAGE, make_artifact, row_anchor_pair

from benchmarks.accuracy import Accuracy, drawn_row, judge
from benchmarks.sweep.merged import _joined
from benchmarks.sweep.tasks import score_shard
from benchmarks.worst_frames import worst_frames
from calibrators.budget.judge import judge as judge_budget
from calibrators.sensitivity.evaluation import EvaluationFrames, Outcome
from engines.graph_runner import GraphRunner
from engines.summary import _headline
from engines.verify import verify
from trt_lane.datasets import open_dataset
from trt_lane.detector import LaneDetector
from trt_lane.evaluation import compare
from trt_lane.fit import Fit
from trt_lane.frame_results import frame_results
from trt_lane.lanes import LaneSet
from trt_lane.metrics.report import MF1_IOUS, score_labels
from trt_lane.model import Metric

KINDS = ("curvelanes", "llamas")


@pytest.fixture(params=KINDS)
def dataset(request, tmp_path):
    """Three labelled frames and one without a label; CurveLanes' are of two sizes."""
    if request.param == "curvelanes":
        images = {}
        for i, hw in enumerate(((1440, 2560), (660, 1570), (720, 1280), (720, 1280))):
            height, width = hw
            lanes = [np.array([[x * width, height - 1], [0.5 * width, 0.5 * height]]).round(2)
                     for x in (0.2, 0.6)]  # fmt: skip
            images[str(i)] = (hw, lanes if i < 3 else None)
        root = write_curvelanes(tmp_path / "set", images)
    else:
        dashes = [((500, 600), (540, 500), 10.0), ((560, 450), (580, 400), 20.0)]
        beside = [((x + 300, y), (x2 + 260, y2), z) for (x, y), (x2, y2), z in dashes]
        label = llamas_label({"l0": dashes, "r0": beside})
        root = write_llamas(
            tmp_path / "set", {"d/0": label, "d/1": label, "d/2": label, "d/3": None}
        )
    return open_dataset(f"{request.param}:{root}")


def moved(dataset, shares):
    """The annotated lanes, those of each frame moved by so much of its width."""
    found = []
    for label, share in zip(dataset.labels(), shares, strict=True):
        lanes = label.lanes or LaneSet.from_lanes([], (720, 1280))
        move = np.float32([share * lanes.frame_hw[1], 0])
        found.append(LaneSet(lanes.points + move, lanes.scores, lanes.frame_hw))
    return found


class InTurn:
    """A detector that gives its lanes one after the other."""

    def __init__(self, lanes):
        self.lanes = iter(lanes)

    def detect(self, frame):
        return next(self.lanes)


def test_the_benchmark_has_f1_at_every_threshold(dataset):
    forms = {"engine": moved(dataset, (0, 0.2, 0, 0))[:3], "float": moved(dataset, [0] * 4)[:3]}
    judged = judge({name: InTurn(lanes) for name, lanes in forms.items()}, dataset, range(4))
    accuracy = judged.accuracy
    assert accuracy.metric == dataset.metric.value and len(accuracy.frames) == 3
    figures = accuracy.figures()
    assert figures["F1"] == {"engine": pytest.approx(2 / 3), "float": 1.0}
    assert figures["F1 at .75"]["engine"] == pytest.approx(2 / 3)
    score = score_labels(dataset.metric, list(dataset.labels())[:3], forms["engine"])
    assert figures["mF1"]["engine"] == pytest.approx(score.mean_f1, abs=1e-12)
    assert accuracy.by_category() == {}
    again = Accuracy.from_dict(accuracy.to_dict())
    assert (again.metric, again.figures()["F1"]) == (accuracy.metric, figures["F1"])
    assert "2 made up, 2 missed" in worst_frames(judged, dataset, 1)[0]["caption"]


def test_a_row_is_counted_by_the_data_sets_own_rule():
    # 12 px aside of 1276: CULane draws 30 px of 1640, CurveLanes 7 px of 224, LLAMAS 30 of 1276.
    rows = np.arange(300.0, 717)[::-1]
    anno, pred = (
        LaneSet.from_lanes([np.stack([np.full_like(rows, x), rows], 1)], (717, 1276))
        for x in (400.5, 412.5)
    )
    found = {m: drawn_row(m, pred, anno) for m in (Metric.CULANE, Metric.CURVELANES, Metric.LLAMAS)}
    assert {m: row[:3] for m, row in found.items()} == {
        Metric.CULANE: [1, 1, 0],  # 15.4 px aside
        Metric.CURVELANES: [1, 1, 1],  # 2.1 px aside: 5 of 9
        Metric.LLAMAS: [1, 1, 0],
    }
    assert all(len(row) == 2 + len(MF1_IOUS) for row in found.values())


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("own_rules") / "engine")


def test_a_sweeps_shard_holds_what_the_detector_finds(dataset, artifact):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(artifact.folder.iterdir()):
            archive.write(path, f"engine/{path.name}")
    shard = score_shard(buffer.getvalue(), dataset.spec, 0, 4)
    assert (shard["metric"], len(shard["names"])) == (dataset.metric.value, 3)
    cell = SimpleNamespace(model=SimpleNamespace(data=dataset.spec))
    swept = _joined(cell, [shard])
    with LaneDetector.load(artifact.folder, threads=1, fit=Fit.CROP) as detector:
        benched = judge({"engine": detector}, dataset, range(4)).accuracy
    assert np.array_equal(swept.forms["engine"].culane, benched.forms["engine"].culane)
    assert swept.forms["engine"].culane[:, 1].tolist() == [2, 2, 2]


def test_verification_scores_every_form(dataset, tmp_path):
    found = row_anchor_pair()
    onnx.save(found.float_model, tmp_path / "float.onnx")
    onnx.save(found.qdq, tmp_path / "int8.onnx")
    proof = verify(tmp_path / "float.onnx", tmp_path / "int8.onnx", dataset, range(4))
    for form in proof.forms.values():
        score = form.score.to_dict()
        assert (score["metric"], score["images"]) == (dataset.metric.value, 3)
        assert 0 <= score["mf1"] <= score["f1"] <= 1
        assert score["tp"] + score["fn"] == 6
    assert _headline(score) in (("f1", "F1 (CurveLanes, IoU .5)"), ("f1", "F1 (LLAMAS, IoU .5)"))
    assert dataset.name in _headline(score)[1]


def test_rows_of_the_quant_table_are_counts_of_the_labelled_frames(dataset, tmp_path):
    found = row_anchor_pair()
    networks = {}
    for name, model in (("float", found.float_model), ("quantised", found.qdq)):
        onnx.save(model, tmp_path / f"{name}.onnx")
        networks[name] = GraphRunner(tmp_path / f"{name}.onnx")
    results = frame_results(networks, IMAGE, DECODER, dataset, range(4))
    assert results["metric"] == dataset.metric.value
    for form in results["forms"].values():
        assert [tp + fn for tp, _, fn in form["labelled"]] == [2, 2, 2]


def test_the_budget_loses_what_lanes_are_moved(dataset):
    labels = tuple(dataset.labels())
    frames = EvaluationFrames(dataset, tuple(range(4)), torch.zeros(4, 3, 4, 4), (), labels)
    forms = {"float": [0] * 4, "near": [0.006] * 4, "far": [0.02] * 4}
    lanes = {name: moved(dataset, shares) for name, shares in forms.items()}

    def outcome(name):
        score = score_labels(dataset.metric, labels, lanes[name])
        return Outcome(score, compare(lanes[name], lanes["float"]))

    losses = {}
    for name in forms:
        of = (frames, outcome(name), outcome("float"), lanes[name], lanes["float"])
        verdict, noise = judge_budget(*of)
        assert verdict.metric == "f1" and verdict.float_value == 1
        assert noise.lane_points == pytest.approx(100 / 6)
        losses[name] = verdict.loss_points
    assert losses["float"] == 0 < losses["near"] < losses["far"]
