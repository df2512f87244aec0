"""TuSimple's layout and its JSON lines."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_images import ROWS

from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError


def test_absent_points_are_nan_and_rows_are_kept(tusimple_root):
    label = open_dataset(f"tusimple:{tusimple_root}").label(0)
    assert label.h_samples == tuple(ROWS)
    assert label.lanes.frame_hw == (200, 400)
    assert label.lanes.points.shape == (2, 10, 2)
    assert np.isnan(label.lanes.points[0, -2:]).all()  # bottom first, so the top rows are last
    assert label.lanes.lanes()[0][0].tolist() == [171, 190]


def test_frame_without_lanes_is_labelled(tusimple_root):
    assert len(open_dataset(f"tusimple:{tusimple_root}").label(1).lanes) == 0


def test_all_label_files_of_a_folder_are_read(tusimple_root):
    record = {"raw_file": "clips/7/20.jpg", "lanes": [], "h_samples": ROWS}
    (tusimple_root / "label_data_0601.json").write_text(json.dumps(record) + "\n")
    assert len(open_dataset(f"tusimple:{tusimple_root}")) == 3
    assert len(open_dataset(f"tusimple:{tusimple_root}/label_data.json")) == 2


def test_tasks_without_lanes_are_unlabelled(tusimple_root):
    path = tusimple_root / "label_data.json"
    path.write_text(json.dumps({"raw_file": "clips/0/20.jpg", "h_samples": ROWS}) + "\n")
    dataset = open_dataset(f"tusimple:{tusimple_root}")
    assert dataset.metric is None
    assert dataset.label(0).lanes is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "is empty"),
        ("{", "label_data.json, line 1: not JSON"),
        ("[]", "line 1: no raw_file"),
        ('{"raw_file": "a.jpg", "lanes": []}', "line 1: no h_samples"),
        ('{"raw_file": "a.jpg", "lanes": [], "h_samples": []}', "h_samples is empty"),
        ('{"raw_file": "a.jpg", "lanes": [[1]], "h_samples": [1, 2]}', "lane 0 has 1 values"),
        ('{"raw_file": "a.jpg", "lanes": [["x"]], "h_samples": [1]}', "expected a list of numbers"),
        ('{"raw_file": "a.jpg", "lanes": 3, "h_samples": [1]}', "lanes is int"),
        ('{"raw_file": "../a.jpg", "lanes": [], "h_samples": [1]}', "a path in the data set"),
    ],
)
def test_damaged_label_files_name_file_and_line(tusimple_root, line, message):
    (tusimple_root / "label_data.json").write_text(line + "\n")
    with pytest.raises(TrtLaneError, match=message):
        open_dataset(f"tusimple:{tusimple_root}")


def test_frame_labelled_twice_asks_for_one_file(tusimple_root):
    text = (tusimple_root / "label_data.json").read_text()
    (tusimple_root / "label_more.json").write_text(text)
    with pytest.raises(TrtLaneError, match="choose one label file"):
        open_dataset(f"tusimple:{tusimple_root}")
