"""CULane's layout and its lane files."""

from __future__ import annotations

import os

import numpy as np
import pytest
from made_images import write_image

from trt_lane.datasets import open_dataset
from trt_lane.datasets.culane_lines import read_lines, write_lines
from trt_lane.errors import TrtLaneError
from trt_lane.model import Metric


def test_lanes_run_from_the_bottom_upwards_in_frame_pixels(culane_root):
    dataset = open_dataset(f"culane:{culane_root}")
    first = dataset.label(0).lanes
    assert first.frame_hw == (200, 400)
    assert [lane[:, 1].tolist() for lane in first.lanes()] == [[199, 189, 179], [199, 150, 100]]
    assert first.lanes()[1][-1, 0] == 200.5


def test_empty_lane_file_is_no_lanes_and_no_file_is_unlabelled(culane_root):
    dataset = open_dataset(f"culane:{culane_root}")
    assert len(dataset.label(1).lanes) == 0
    assert dataset.label(2).lanes is None
    assert dataset.metric is Metric.CULANE


def test_set_without_lane_files_is_unlabelled(culane_root):
    for path in culane_root.rglob("*.lines.txt"):
        path.unlink()
    assert open_dataset(f"culane:{culane_root}").metric is None


def test_categories_come_from_test_split(culane_root):
    dataset = open_dataset(f"culane:{culane_root}")
    assert [label.category for label in dataset.labels()] == ["normal", "cross", None]


def test_list_file_can_be_named_and_further_columns_are_ignored(culane_root):
    path = culane_root / "list" / "train_gt.txt"
    path.write_text("/b/3.jpg /laneseg/b/3.png 1 1 0 0\n")
    dataset = open_dataset(f"culane:{path}")
    assert [label.name for label in dataset.labels()] == ["b/3.jpg"]


def test_several_lists_without_test_txt_ask_for_one(culane_root):
    for name in ("train.txt", "val.txt"):
        (culane_root / "list" / name).write_text("/a/1.jpg\n")
    (culane_root / "list" / "test.txt").unlink()
    with pytest.raises(TrtLaneError, match=r"train.txt, val.txt; expected list/test.txt"):
        open_dataset(f"culane:{culane_root}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", "names no image"),
        ("/a/1.jpg\n/a/1.jpg\n", "line 2: a/1.jpg is listed twice"),
        ("/../secret.jpg\n", "line 1 names the image"),
    ],
)
def test_bad_lists_are_named(culane_root, text, message):
    (culane_root / "list" / "test.txt").write_text(text)
    with pytest.raises(TrtLaneError, match=message):
        open_dataset(f"culane:{culane_root}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 2 3 4\n5 6 7\n", r"1.lines.txt, line 2: 3 values; expected x y pairs"),
        (b"1 2 x 4\n", r"line 1: 'x' is not a number"),
        (b"1 2 nan 4\n", r"line 1: 'nan' is no place in a frame"),
        (b"1 2 1e300 4\n", r"line 1: '1e300' is no place"),
        (b"\xff\xfe\x00\x81", "not a text file"),
    ],
)
def test_damaged_lane_files_name_file_and_line(culane_root, content, message):
    (culane_root / "a/1.lines.txt").write_bytes(content)
    dataset = open_dataset(f"culane:{culane_root}")
    with pytest.raises(TrtLaneError, match=message):
        dataset.label(0)


def test_missing_image_is_named(culane_root):
    (culane_root / "b/3.jpg").unlink()
    with pytest.raises(TrtLaneError, match=r"cannot read image .*b/3.jpg: No such file"):
        open_dataset(f"culane:{culane_root}")[2]


def test_written_lanes_come_back_exactly(tmp_path):
    rng = np.random.default_rng(4)
    lanes = [rng.normal(500, 400, (n, 2)).astype(np.float32) for n in (1, 2, 30)]
    write_lines(tmp_path / "x.lines.txt", [*lanes, np.zeros((0, 2))])
    back = read_lines(tmp_path / "x.lines.txt")
    assert len(back) == 3
    assert all((a == b).all() for a, b in zip(back, lanes, strict=True))


def test_empty_line_is_a_lane_without_points_as_officially(tmp_path):
    path = tmp_path / "x.lines.txt"
    path.write_text("1 2 3 4\n\n5 6 7 8\r\n")
    assert [len(lane) for lane in read_lines(path)] == [2, 0, 2]


def test_digest_follows_frames_labels_categories_and_order(culane_root):
    def digest() -> str:
        return open_dataset(f"culane:{culane_root}").digest()

    seen = [digest()]
    os.utime(culane_root / "a/1.jpg", (1, 1))
    assert digest() == seen[0]  # the same content is the same data
    write_image(culane_root / "a/1.jpg", value=91)
    seen.append(digest())
    (culane_root / "a/1.lines.txt").write_text("51 199 60 189 70 179\n")
    seen.append(digest())
    (culane_root / "list/test_split/test7_cross.txt").write_text("/b/3.jpg\n")
    seen.append(digest())
    (culane_root / "list/test.txt").write_text("/a/2.jpg\n/a/1.jpg\n/b/3.jpg\n")
    seen.append(digest())
    (culane_root / "b/3.jpg").unlink()
    seen.append(digest())
    assert len(set(seen)) == len(seen)
