"""Predictions are written as the official evaluators read them, and score as in memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_images import write_image

from trt_lane.datasets import open_dataset
from trt_lane.datasets.predictions import write_predictions
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts
from trt_lane.metrics.culane_files import score_files as score_culane_files
from trt_lane.metrics.report import score_dataset
from trt_lane.metrics.tusimple_files import score_files as score_tusimple_files


def shaken(dataset, shift_px: float) -> list[LaneSet]:
    rng = np.random.default_rng(0)
    out = []
    for label in dataset.labels():
        shift = rng.normal(0, shift_px, (len(label.lanes), 1, 1)) * np.float32([1, 0])
        out.append(LaneSet(label.lanes.points + shift, label.lanes.scores, label.lanes.frame_hw))
    return out


def test_culane_files_score_as_the_lanes_in_memory(shared, tmp_path):
    root = shared / "data" / "culane"
    dataset = open_dataset(f"culane:{root}")
    predictions = shaken(dataset, shift_px=15)
    folder = write_predictions(dataset, predictions, tmp_path)
    in_files = score_culane_files(folder, root, root / "list" / "test.txt")
    in_memory = score_dataset(dataset, predictions)
    assert in_files.total == in_memory.total
    assert in_files.images == in_memory.images == 90
    assert 0 < in_memory.value < 1


def test_tusimple_file_scores_as_the_lanes_in_memory(shared, tmp_path):
    root = shared / "data" / "tusimple"
    dataset = open_dataset(f"tusimple:{root}")
    predictions = shaken(dataset, shift_px=15)
    path = write_predictions(dataset, predictions, tmp_path, run_time_ms=12.5)
    in_files = score_tusimple_files(path, root / "label_data.json")
    in_memory = score_dataset(dataset, predictions).total
    assert in_files == in_memory
    assert 0.5 < in_memory.accuracy < 1
    assert json.loads(path.read_text().splitlines()[0])["run_time"] == 12.5


def test_image_without_lanes_gets_an_empty_file(culane_root, tmp_path):
    dataset = open_dataset(f"culane:{culane_root}")
    none = [LaneSet.from_lanes([], (200, 400))] * 3
    write_predictions(dataset, none, tmp_path / "out")
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("out/*/*"))
    assert written == ["a/1.lines.txt", "a/2.lines.txt", "b/3.lines.txt"]
    assert all(not (tmp_path / "out" / name).read_bytes() for name in written)


def test_unlabelled_frames_are_left_out_of_the_score(culane_root):
    dataset = open_dataset(f"culane:{culane_root}")
    lanes = [dataset.label(0).lanes] * 3
    score = score_dataset(dataset, lanes)
    assert score.images == 2
    assert score.total == CulaneCounts(2, 2, 0)
    assert score.categories == {"cross": CulaneCounts(0, 2, 0), "normal": CulaneCounts(2, 0, 0)}
    assert score.to_dict()["categories"]["cross"] == {"fp": 2}


def test_score_needs_labels_and_one_prediction_per_frame(tmp_path, culane_root):
    write_image(tmp_path / "photos" / "x.png")
    with pytest.raises(TrtLaneError, match="has no labels"):
        score_dataset(open_dataset(f"images:{tmp_path / 'photos'}"), [])
    with pytest.raises(ValueError, match="0 predictions for 3 frames"):
        score_dataset(open_dataset(f"culane:{culane_root}"), [])


def test_synthetic_labels_score_perfectly_against_themselves_at_any_size():
    small, full = open_dataset("synthetic:12:820x295"), open_dataset("synthetic:12")
    score = score_dataset(full, [label.lanes for label in small.labels()])
    assert score.value == 1.0
    assert sum(score.categories.values(), CulaneCounts()) == score.total
