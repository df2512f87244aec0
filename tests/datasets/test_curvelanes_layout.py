"""CurveLanes' layout with frames of its three sizes: truth by hand."""

from __future__ import annotations

import json
from itertools import pairwise, product

import cv2
import numpy as np
import pytest
from made_label_files import write_curvelanes, write_frame

from trt_lane.datasets import open_dataset
from trt_lane.datasets.curvelanes import label_name, read_lanes
from trt_lane.datasets.predictions import write_predictions
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts
from trt_lane.metrics.culane_files import score_files
from trt_lane.metrics.report import score_dataset
from trt_lane.model import Metric

SIZES = {"big": (1440, 2560), "wide": (660, 1570), "small": (720, 1280)}


def upright(hw, picture_x):
    """A lane in the middle of that column of the 224x224 picture, in pixels of a frame."""
    rows = np.linspace(0.95, 0.4, 12) * hw[0]
    return np.stack([np.full(12, (picture_x + 0.5) * hw[1] / 224), rows], axis=1).round(3)


@pytest.fixture
def root(tmp_path):
    images = {name: (hw, [upright(hw, 60), upright(hw, 150)]) for name, hw in SIZES.items()}
    images |= {"empty": (SIZES["small"], []), "unlabelled": (SIZES["small"], None)}
    return write_curvelanes(tmp_path / "set", images)


def test_lanes_are_in_the_pixels_of_their_own_frame(root):
    dataset = open_dataset(f"curvelanes:{root}")
    assert [sample.frame.shape[:2] for sample in dataset][:3] == list(SIZES.values())
    for sample, hw in zip(dataset, SIZES.values(), strict=False):
        assert sample.lanes.frame_hw == hw
        assert np.allclose(sample.lanes.lanes()[1], upright(hw, 150), atol=1e-3)
    assert dataset[0].name == "images/big.jpg"


def test_no_lanes_are_an_empty_set_and_no_file_is_unlabelled(root):
    dataset = open_dataset(f"curvelanes:{root}")
    assert len(dataset.label(3).lanes) == 0 and dataset.label(4).lanes is None
    assert dataset.metric is Metric.CURVELANES
    for path in root.rglob("*.json"):
        path.unlink()
    assert open_dataset(f"curvelanes:{root}").metric is None


def beside(dataset, picture_px):
    """The annotated lanes, moved by pixels of the 224x224 picture."""
    found = []
    for label in dataset.labels():
        lanes = label.lanes if label.lanes is not None else LaneSet.from_lanes([], (720, 1280))
        move = np.float32([picture_px * lanes.frame_hw[1] / 224, 0])
        found.append(LaneSet(lanes.points + move, lanes.scores, lanes.frame_hw))
    return found


def test_lanes_score_by_how_far_they_are_aside_on_the_small_picture(root):
    dataset = open_dataset(f"curvelanes:{root}")
    # Lines of 5 px are 7 px wide with the round ends of their steps: 1 px aside shares 6 of 8 px,
    # 2 px aside 5 of 9, 3 px aside 4 of 10, whatever the frame's size.
    counts = {px: score_dataset(dataset, beside(dataset, px)) for px in range(4)}
    assert [counts[px].total.tp for px in range(4)] == [6, 6, 6, 0]
    assert counts[3].total == CulaneCounts(0, 6, 6)
    at = [sum((m.counts(iou) for m in counts[1].matches), CulaneCounts()) for iou in (0.7, 0.8)]
    assert [found.tp for found in at] == [6, 0]
    assert (counts[1].images, counts[1].to_dict()["metric"]) == (4, "curvelanes")
    assert counts[0].mean_f1 == 1.0


def test_lanes_of_another_size_than_the_frame_are_scaled(root):
    dataset = open_dataset(f"curvelanes:{root}")
    small = [lanes.scaled_to((295, 820)) for lanes in beside(dataset, 0.2)]
    assert score_dataset(dataset, small).total == CulaneCounts(6, 0, 0)


def plain_counts(pred, anno, hw, iou):
    """Whole pictures, a line a pixel long after the other, and the best of all pairings."""

    def mask(lane):
        image = np.zeros((224, 224), np.uint8)
        start, end = (np.float64(lane[i]) / (hw[1] / 224, hw[0] / 224) for i in (0, -1))
        steps = np.arange(int(np.ceil(np.hypot(*(end - start)))))
        points = [start + (end - start) * s / np.hypot(*(end - start)) for s in steps] + [end]
        for a, b in pairwise(points):
            cv2.line(image, tuple(int(v) for v in a), tuple(int(v) for v in b), 1, 5)
        return image > 0

    pred, anno = [mask(lane) for lane in pred], [mask(lane) for lane in anno]
    ious = {(i, j): (a & p).sum() / (a | p).sum()
            for (i, a), (j, p) in product(enumerate(anno), enumerate(pred))}  # fmt: skip
    pairings = ([], *([pair] for pair in ious))
    pairings += tuple([a, b] for a, b in product(ious, ious) if a[0] < b[0] and a[1] != b[1])
    best = max(pairings, key=lambda pairs: sum(ious[pair] for pair in pairs))
    tp = sum(ious[pair] > iou for pair in best)
    return CulaneCounts(tp, len(pred) - tp, len(anno) - tp)


def test_counts_equal_a_plain_way_of_counting(tmp_path):
    rng = np.random.default_rng(7)
    images, predictions = {}, []
    for i in range(9):
        hw = list(SIZES.values())[i % 3]
        ends = rng.uniform([0.1, 0.9], [0.9, 0.99], (2, 2)), rng.uniform(0.3, 0.6, (2, 2))
        anno = [np.float32([a, b] * np.array(hw[::-1])) for a, b in zip(*ends, strict=True)]
        pred = [lane + rng.normal(0, 0.006, 2) * hw[::-1] for lane in anno]
        pred = [np.float32(lane) for lane in pred[: int(rng.integers(0, 3))]]
        images[str(i)] = (hw, anno)
        predictions.append((pred, anno, hw))
    dataset = open_dataset(f"curvelanes:{write_curvelanes(tmp_path / 'set', images)}")
    lanes = [LaneSet.from_lanes(pred, hw) for pred, _, hw in predictions]
    score = score_dataset(dataset, lanes)
    for iou in (0.3, 0.5, 0.75):
        found = [matches.counts(iou) for matches in score.matches]
        assert found == [plain_counts(*image, iou) for image in predictions]
    assert 0 < score.value < 1


def test_files_score_as_the_lanes_in_memory(root, tmp_path):
    dataset = open_dataset(f"curvelanes:{root}")
    annotated, folder = tmp_path / "anno", tmp_path / "pred"
    write_predictions(dataset, beside(dataset, 0), annotated)
    write_predictions(dataset, beside(dataset, 1), folder)
    names = tmp_path / "list.txt"
    total = CulaneCounts()
    for name, hw in SIZES.items():
        names.write_text(f"images/{name}.jpg\n")
        total += score_files(folder, annotated, names, frame_hw=hw, metric=Metric.CURVELANES).total
    assert total == score_dataset(dataset, beside(dataset, 1)).total == CulaneCounts(6, 0, 0)


@pytest.mark.parametrize("place", ["", "/valid", "/valid/valid.txt"])
def test_a_split_is_opened_by_its_folder_or_list(root, place):
    spec = f"curvelanes:{root}/valid/valid.txt"
    for found in (open_dataset(f"curvelanes:{root}{place}"), open_dataset(f"{root}{place}")):
        assert found.spec == spec
    write_curvelanes(root, {"other": (SIZES["small"], None)}, "train")
    assert open_dataset(f"curvelanes:{root}").spec == spec  # of several the valid one
    assert len(open_dataset(f"curvelanes:{root}/train")) == 1
    again = open_dataset(spec)
    assert again.digest() == open_dataset(again.spec).digest()


def test_empty_folders_and_lists_are_told(tmp_path):
    (tmp_path / "valid/images").mkdir(parents=True)
    with pytest.raises(TrtLaneError, match=r"has no valid/valid.txt; expected DIR with"):
        open_dataset(f"curvelanes:{tmp_path}")
    (tmp_path / "valid/valid.txt").write_text("\n")
    with pytest.raises(TrtLaneError, match="names no image"):
        open_dataset(f"curvelanes:{tmp_path}")
    with pytest.raises(TrtLaneError, match="no folder"):
        open_dataset("curvelanes:/no/such/place")


def test_several_lists_without_the_valid_one_ask_for_one(tmp_path):
    for split in ("train", "test"):
        write_curvelanes(tmp_path, {"a": (SIZES["small"], None)}, split)
    with pytest.raises(TrtLaneError, match=r"has train/train.txt, test/test.txt; expected"):
        open_dataset(f"curvelanes:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "no list of Lines"),
        (b'{"Lines": [1]}', "no list of Lines"),
        (b'{"Lines": [[], [{"x": "1"}]]}', "lane 1: .*expected a point's x and y"),
        (b'{"Lines": [["xy"]]}', "lane 0: 'xy'; expected a point"),
        (b'{"Lines": [[{"x": "a", "y": "2"}]]}', "lane 0: .*expected a point's x and y"),
        (b'{"Lines": [[{"x": "nan", "y": "2"}]]}', "lane 0: nan, 2.0 is no place"),
        (b'{"Lines": [[{"x": 1e300, "y": 2}]]}', "is no place in a frame"),
        (b"\xff\xfe\x00\x81", "not a text file"),
    ],
)
def test_damaged_labels_name_file_and_lane(root, content, message):
    (root / "valid/labels/big.lines.json").write_bytes(content)
    with pytest.raises(TrtLaneError, match=f"big.lines.json.*{message}"):
        open_dataset(f"curvelanes:{root}").label(0)


def test_a_missing_image_is_named(root):
    (root / "valid/images/big.jpg").unlink()
    with pytest.raises(TrtLaneError, match=r"cannot read image .*images/big.jpg"):
        open_dataset(f"curvelanes:{root}")[0]


def test_lanes_run_from_the_bottom_upwards_and_those_without_points_are_none(root):
    lane = upright(SIZES["big"], 60)
    lines = [[{"x": str(x), "y": str(y)} for x, y in lane[::-1]], [], [{"x": 5, "y": 6}]]
    path = root / "valid/labels/big.lines.json"
    path.write_text(json.dumps({"Lines": lines}))
    found = open_dataset(f"curvelanes:{root}").label(0).lanes.lanes()
    assert [len(lane) for lane in found] == [12, 1]
    assert (np.diff(found[0][:, 1]) < 0).all()
    assert [len(lane) for lane in read_lanes(path)] == [12, 1]


def test_labels_lie_in_a_folder_of_their_own():
    assert label_name("images/a.b.jpg") == "labels/a.b.lines.json"
    assert label_name("valid/images/a.jpg") == "valid/labels/a.lines.json"
    assert label_name("a.jpg") == "a.lines.json"


def test_digest_follows_frames_and_labels(root):
    def digest():
        return open_dataset(f"curvelanes:{root}").digest()

    seen = [digest(), digest()]
    assert seen.pop() == seen[0]
    (root / "valid/labels/big.lines.json").write_text('{"Lines": []}')
    seen.append(digest())
    write_frame(root / "valid/images/big.jpg", SIZES["big"], 7)
    seen.append(digest())
    (root / "valid/labels/wide.lines.json").unlink()
    seen.append(digest())
    assert len(set(seen)) == 4
