"""One spec opens every kind of data set, and mistakes are named."""

from __future__ import annotations

import pytest
from made_images import write_image

from trt_lane.datasets import kinds, open_dataset
from trt_lane.errors import TrtLaneError
from trt_lane.model import Metric


def test_every_kind_has_a_reader():
    assert list(kinds()) == [
        *("culane", "curvelanes", "images", "llamas", "synthetic", "tusimple", "video")
    ]


def test_bare_paths_are_recognised(culane_root, tusimple_root, video_file, tmp_path):
    write_image(tmp_path / "photos" / "x.png")
    found = {
        path: open_dataset(str(path)).spec.partition(":")[0]
        for path in (culane_root, tusimple_root, video_file, tmp_path / "photos")
    }
    assert list(found.values()) == ["culane", "tusimple", "video", "images"]


def test_spec_of_a_data_set_opens_the_same_again(culane_root, tusimple_root, video_file):
    specs = [f"culane:{culane_root}", f"tusimple:{tusimple_root}", f"video:{video_file}:3"]
    for spec in (*specs, "synthetic:train:4:seed=2:410x148"):
        dataset = open_dataset(spec)
        again = open_dataset(dataset.spec)
        assert (again.spec, again.digest()) == (dataset.spec, dataset.digest())


def test_samples_carry_what_labels_say(culane_root, tusimple_root):
    for spec in (f"culane:{culane_root}", f"tusimple:{tusimple_root}", "synthetic:2:410x148"):
        dataset = open_dataset(spec)
        samples = list(dataset)
        assert len(samples) == len(dataset)
        for sample, label in zip(samples, dataset.labels(), strict=True):
            assert (sample.name, sample.category) == (label.name, label.category)
            if label.lanes is not None:
                assert sample.frame.shape[:2] == label.lanes.frame_hw
        assert dataset[-1].name == samples[-1].name
        with pytest.raises(IndexError):
            dataset[len(dataset)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("culan:/somewhere", "did you mean 'culane'.*known kinds"),
        ("/no/such/place", "no data set or path.*known kinds"),
        ("", "no data set or path.*known kinds"),
        ("culane:", "says no place"),
        ("culane:/no/such/place", "no folder"),
        ("tusimple:/no/such/place", "no folder"),
        ("images:/no/such/place", "no folder"),
        ("video:/no/such/place.mp4", "no video file"),
        ("synthetic:tset", "'tset' not understood.*train, calibration, test"),
        ("synthetic:0", "0 frames"),
        ("synthetic:5:6", "count twice"),
        ("synthetic:1:100x100", "aspect ratio"),
    ],
)
def test_wrong_specs_say_what_was_expected(spec, message):
    with pytest.raises(TrtLaneError, match=message):
        open_dataset(spec)


def test_folder_without_anything_known_is_refused(tmp_path):
    with pytest.raises(TrtLaneError, match="no images"):
        open_dataset(str(tmp_path))


def test_synthetic_splits_differ_and_repeat():
    test = open_dataset("synthetic:test:1:410x148")
    train = open_dataset("synthetic:train:1:410x148")
    assert test.metric is Metric.CULANE
    assert (test[0].frame == test.frame(0)).all()
    assert (test[0].frame != train[0].frame).any()
    assert test.digest() != train.digest()


def test_real_sets_have_the_stated_sizes(shared):
    data = shared / "data"
    sizes = {
        "culane": (90, Metric.CULANE),
        "tusimple": (17, Metric.TUSIMPLE),
        "road_photos": (14, None),
        "drive.mp4": (221, None),
    }
    for name, expected in sizes.items():
        dataset = open_dataset(str(data / name))
        assert (len(dataset), dataset.metric) == expected
        sample = dataset[len(dataset) - 1]
        assert sample.frame.ndim == 3
