"""LLAMAS' layout, and its markers as lanes: truth by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_label_files import llamas_label, made_llamas, write_frame, write_llamas

from trt_lane.cli import main
from trt_lane.datasets import open_dataset
from trt_lane.datasets.llamas_json import lanes_of, read_columns
from trt_lane.datasets.predictions import write_predictions
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.metrics.culane import CulaneCounts
from trt_lane.metrics.llamas_files import score_files
from trt_lane.metrics.report import MF1_IOUS, score_dataset
from trt_lane.model import Metric

# 0.4 px to the right per row upwards; then a gap of 50 rows, then the same again.
DASHES = [((500, 600), (540, 500), 10.0), ((560, 450), (580, 400), 20.0)]


def moved(markers, right_px):
    return [((a + right_px, b), (c + right_px, d), z) for (a, b), (c, d), z in markers]


@pytest.fixture
def root(tmp_path):
    labels = {
        "b/2": llamas_label({"l0": DASHES, "r0": moved(DASHES, 300)}),
        "a/10": llamas_label({}),
        "a/9": llamas_label({"l0": DASHES}),
        "b/3": None,
    }
    return write_llamas(tmp_path / "llamas", labels)


def columns(tmp_path, lanes):
    path = tmp_path / "label.json"
    path.write_text(json.dumps(llamas_label(lanes)))
    return dict(zip(("l1", "l0", "r0", "r1"), read_columns(path), strict=True))


def test_a_lane_runs_through_markers_over_gaps_and_down_to_the_border(tmp_path):
    found = columns(tmp_path, {"l0": DASHES})
    xs = found["l0"]
    assert [xs[600], xs[550], xs[500]] == [500, 520, 540]
    assert [xs[450], xs[425], xs[400]] == [560, 570, 580]
    assert xs[475] == pytest.approx(550, abs=1e-9)  # straight over the gap
    assert xs[716] == 454  # 116 rows below 600, 46.4 px to the left
    assert xs[658] == 477
    assert np.isnan(xs[:400]).all() and np.isfinite(xs[400:]).all()
    assert all(np.isnan(found[name]).all() for name in ("l1", "r0", "r1"))


def test_a_lane_that_leaves_the_frame_at_its_side_ends_there(tmp_path):
    left = [((50, 600), (90, 580), 5.0), ((290, 480), (330, 460), 9.0)]
    right = [((1275 - x, y), (1275 - x2, y2), z) for (x, y), (x2, y2), z in left]
    found = columns(tmp_path, {"l0": left, "r0": right})
    assert found["l0"][625] == 0 and np.isnan(found["l0"][626:]).all()  # 2 px a row: 25 rows below
    # The right border is column 1276, a pixel more: (1276 - 1225) / 2 = 25.5 rows.
    assert found["r0"][626] == 1276 and np.isnan(found["r0"][627:]).all()


def test_lanes_of_few_rows_or_markers_are_left_out_and_the_others_count_anew(tmp_path):
    flat = [((500, 600), (540, 590), 5.0), ((560, 581), (580, 400), 9.0)]  # 19 rows apart
    once = DASHES[:1]
    found = columns(
        tmp_path,
        {"l4": moved(DASHES, -90), "l1": flat, "l0": DASHES, "r1": once, "r3": moved(DASHES, 80)},
    )
    assert found["l0"][500] == 540
    assert found["l1"][500] == 450  # l4: l1 is left out
    assert found["r0"][500] == 620  # r3: r1 is left out
    assert np.isnan(found["r1"]).all()


def test_rows_of_several_markers_hold_their_mean(tmp_path):
    beside = [((500, 600), (540, 500), 10.0), ((522, 560), (546, 500), 11.0)]
    xs = columns(tmp_path, {"l0": beside})["l0"]
    assert xs[550] == (520 + 526) / 2
    assert xs[560] == (516 + 522 + 522) / 3  # a marker's foot counts twice, as officially


def test_the_nearest_marker_leads_to_the_border_wherever_it_stands(tmp_path):
    first, second = columns(tmp_path, {"l0": DASHES}), columns(tmp_path, {"l0": DASHES[::-1]})
    assert np.array_equal(first["l0"], second["l0"], equal_nan=True)
    upright = [((500, 600), (500, 500), 10.0), ((500, 450), (500, 400), 20.0)]
    assert np.isnan(columns(tmp_path, {"l0": upright})["l0"][601:]).all()
    behind = [(DASHES[0][0], DASHES[0][1], -1.0), DASHES[1]]
    assert np.isnan(columns(tmp_path, {"l0": behind})["l0"][601:]).all()


def test_markers_beyond_the_frame_add_nothing(tmp_path):
    beyond = [*DASHES, ((470, 99_999), (480, 90_000), 30.0), ((580, 20), (600, -80), 40.0)]
    assert columns(tmp_path, {"l0": beyond})["l0"][500] == 540


def test_frames_come_in_natural_order_and_lanes_from_the_bottom_upwards(root):
    dataset = open_dataset(f"llamas:{root}")
    names = [f"color_images/valid/{n}_color_rect.png" for n in ("a/9", "a/10", "b/2", "b/3")]
    assert [label.name for label in dataset.labels()] == names
    assert dataset.metric is Metric.LLAMAS
    assert [None if x.lanes is None else len(x.lanes) for x in dataset.labels()] == [1, 0, 2, None]
    lane = dataset[2].lanes.lanes()[0]
    assert lane[0].tolist() == [454, 716] and lane[-1].tolist() == [580, 400]
    assert dataset[2].lanes.frame_hw == dataset[2].frame.shape[:2] == (717, 1276)


def test_float32_never_carries_a_column_into_the_next_pixel(tmp_path):
    labels = {f"d/{i}": label for i, (label, _) in enumerate(made_llamas(12))}
    dataset = open_dataset(f"llamas:{write_llamas(tmp_path / 'x', labels, images=False)}")
    for i, label in enumerate(dataset.labels()):
        exact = lanes_of(read_columns(tmp_path / f"x/labels/valid/d/{i}.json"))
        for lane, wanted in zip(label.lanes.lanes(), exact, strict=True):
            assert (np.trunc(lane[::-1]) == np.trunc(wanted)).all()
            assert np.abs(lane[::-1] - wanted).max() < 1e-3


@pytest.mark.parametrize("place", ["", "/labels/train", "/color_images/train"])
def test_a_split_is_opened_by_its_folder(tmp_path, place):
    root = write_llamas(tmp_path / "set", {"a/1": llamas_label({"l0": DASHES})}, "train")
    dataset = open_dataset(f"llamas:{root}{place}")  # the only one, too
    assert len(dataset) == 1
    again = open_dataset(dataset.spec)
    assert (again.spec, again.digest()) == (dataset.spec, dataset.digest())
    assert open_dataset(f"{root}{place}").spec == dataset.spec  # a bare path


def test_test_frames_without_labels_are_unlabelled(tmp_path):
    root = write_llamas(tmp_path / "set", {"a/1": None}, "test")
    dataset = open_dataset(f"llamas:{root}")
    assert (len(dataset), dataset.metric, dataset.label(0).lanes) == (1, None, None)
    assert open_dataset(dataset.spec).digest() == dataset.digest()


def test_several_splits_without_the_valid_one_ask_for_one(tmp_path):
    for split in ("train", "test"):
        write_llamas(tmp_path / "set", {"a/1": None}, split)
    with pytest.raises(TrtLaneError, match="labels/train, labels/test; expected DIR with color"):
        open_dataset(f"llamas:{tmp_path / 'set'}")


@pytest.mark.parametrize("place", ["", "/labels/valid", "/labels/nosuch"])
def test_empty_folders_are_told(tmp_path, place):
    (tmp_path / "labels/valid").mkdir(parents=True)
    (tmp_path / "color_images/valid/a").mkdir(parents=True)
    with pytest.raises(TrtLaneError, match=r"expected DIR with color_images/valid"):
        open_dataset(f"llamas:{tmp_path}{place}")


def change(label, change_it):
    change_it(label)
    return json.dumps(label)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.pop("lanes"), "no list of lanes"),
        (lambda v: v["lanes"][0].pop("lane_id"), "lane 0: no lane_id"),
        (lambda v: v["lanes"][0].update(markers=None), "lane 0: no lane_id or no list of markers"),
        (lambda v: v["lanes"][0].update(lane_id="x0"), "lane_id 'x0'; expected l0"),
        (lambda v: v["lanes"][0]["markers"][0].pop("pixel_end"), "lane l0: .*expected a marker's"),
        (lambda v: v["lanes"][0]["markers"][0]["pixel_end"].update(x="a"), "expected a marker's"),
        (lambda v: v["lanes"][0]["markers"][0]["world_start"].update(z="nan"), "is no place"),
        (lambda v: v["lanes"][0]["markers"][0]["pixel_start"].update(x="9" * 30), "is no place"),
    ],
)
def test_damaged_labels_name_file_and_lane(root, edit, message):
    path = root / "labels/valid/a/9.json"
    path.write_text(change(json.loads(path.read_text()), edit))
    with pytest.raises(TrtLaneError, match=f"a/9.json.*{message}"):
        open_dataset(f"llamas:{root}").label(0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00\x81", b"[" * 100_000])
def test_labels_that_are_no_json_object_are_one_line(root, content):
    (root / "labels/valid/a/9.json").write_bytes(content)
    with pytest.raises(TrtLaneError, match=r"a/9.json"):
        open_dataset(f"llamas:{root}").label(0)


def test_a_missing_image_and_one_of_another_size_are_named(root):
    path = root / "color_images/valid/a/9_color_rect.png"
    path.unlink()
    with pytest.raises(TrtLaneError, match=r"cannot read image .*a/9_color_rect.png"):
        open_dataset(f"llamas:{root}").frame(0)
    write_frame(path, (360, 640))
    with pytest.raises(TrtLaneError, match="is 640x360; LLAMAS' labels are for 1276x717"):
        open_dataset(f"llamas:{root}").frame(0)


def test_digest_follows_frames_and_labels(root):
    def digest():
        return open_dataset(f"llamas:{root}").digest()

    seen = [digest(), digest()]
    assert seen.pop() == seen[0]
    (root / "labels/valid/a/9.json").write_text(json.dumps(llamas_label({})))
    seen.append(digest())
    write_frame(root / "color_images/valid/b/2_color_rect.png", (717, 1276), 7)
    seen.append(digest())
    (root / "labels/valid/b/2.json").unlink()
    seen.append(digest())
    assert len(set(seen)) == 4


def test_lanes_beside_the_markers_score_as_far_as_they_are(root):
    dataset = open_dataset(f"llamas:{root}")
    score = score_dataset(dataset, [shifted(dataset, i, 3.25) for i in range(4)])
    assert score.metric is Metric.LLAMAS and score.images == 3
    assert score.total == CulaneCounts(3, 0, 0)
    # 0.4 px per row: 3 px aside are 2.8 px across of 30 px: some 27 of 33 shared.
    assert 3 / len(MF1_IOUS) < score.mean_f1 < 9 / len(MF1_IOUS)
    far = score_dataset(dataset, [shifted(dataset, i, 15) for i in range(4)])
    assert far.total == CulaneCounts(0, 3, 3)
    assert score.to_dict()["metric"] == "llamas"


def test_files_score_as_the_lanes_in_memory(root, tmp_path):
    dataset = open_dataset(f"llamas:{root}")
    predictions = [shifted(dataset, i, 4.25 * i) for i in range(4)]
    folder = write_predictions(dataset, predictions, tmp_path / "pred")
    written = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.txt"))
    assert written == [f"{n}.lines.txt" for n in ("a/10", "a/9", "b/2", "b/3")]
    in_files = score_files(folder, root / "labels" / "valid")
    assert in_files.total == score_dataset(dataset, predictions).total
    assert in_files.images == 3
    assert score_files(folder, root / "labels" / "valid" / "b", jobs=2).images == 1


def test_the_command_gives_the_same_counts(root, tmp_path, capsys):
    dataset = open_dataset(f"llamas:{root}")
    folder = write_predictions(dataset, [shifted(dataset, i, 6.25 * i) for i in range(4)], tmp_path)
    words = ["score", "llamas", "--pred", str(folder), "--anno", str(root / "labels" / "valid")]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # The first is where it should be; the others, one image of two lanes, are 12 px aside.
    assert {k: found[k] for k in ("metric", "images", "tp", "fp", "fn", "frame")} == {
        **{"metric": "llamas", "images": 3, "tp": 1, "fp": 2, "fn": 2, "frame": "1276x717"}
    }
    assert main([*words, "--iou", "0.3"]) == 0
    assert "3 images; IoU > 0.3, lanes 30 px wide" in capsys.readouterr().out
    assert main([*words[:3], str(tmp_path / "nosuch"), *words[4:]]) == 2
    assert "no prediction folder" in capsys.readouterr().err


def test_files_that_are_missing_are_told_as_officially(root, tmp_path):
    (tmp_path / "pred").mkdir()
    with pytest.raises(TrtLaneError, match=r"lacks 3 of 3 labelled images, first a/9.lines.txt"):
        score_files(tmp_path / "pred", root / "labels")
    with pytest.raises(TrtLaneError, match=r"holds no \*.json"):
        score_files(tmp_path / "pred", tmp_path / "pred")
    with pytest.raises(TrtLaneError, match="no label folder"):
        score_files(tmp_path / "pred", tmp_path / "nosuch")


def shifted(dataset, index, right_px):
    """The annotated lanes at every 20th row, moved; none where there is no label."""
    lanes = dataset.label(index).lanes
    arrays = [] if lanes is None else [lane[::20] for lane in lanes.lanes()]
    move = np.float32([right_px, 0])
    return LaneSet.from_lanes([lane + move for lane in arrays], (717, 1276))
