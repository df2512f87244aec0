import time

import numpy as np
import pytest
from tiny_training import IMAGE

from training import data
from training.data import FrameRange, cache_name, network_view, prepare
from trt_lane.datasets.synthetic import Split, render
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec

FRAMES = FrameRange(Split.TRAIN, 0, 4)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(data, "SHARD", 2)


def test_only_missing_shards_are_rendered_and_to_the_same_pixels(tmp_path):
    whole = prepare(tmp_path, IMAGE, FRAMES)
    before = [whole[i][0].copy() for i in range(4)]
    place = tmp_path / cache_name(IMAGE, FRAMES)
    kept = (place / "pixels_0000.npy").stat().st_mtime_ns
    (place / "pixels_0001.npy").unlink()
    time.sleep(0.01)
    steps = []
    again = prepare(tmp_path, IMAGE, FRAMES, on_shard=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]
    assert (place / "pixels_0000.npy").stat().st_mtime_ns == kept
    assert all(np.array_equal(again[i][0], before[i]) for i in range(4))


def test_more_frames_extend_the_same_cache(tmp_path):
    few = prepare(tmp_path, IMAGE, FRAMES)
    more = prepare(tmp_path, IMAGE, FrameRange(Split.TRAIN, 0, 5))
    assert few.place == more.place
    assert (len(few), len(more)) == (4, 5)
    with pytest.raises(IndexError):
        more[5]


@pytest.mark.slow
def test_two_processes_render_what_one_does(tmp_path, monkeypatch):
    monkeypatch.undo()  # the processes have the true shard size
    frames = FrameRange(Split.TRAIN, 0, 2 * data.SHARD)
    monkeypatch.setattr(data, "_render_shard", _write_number)
    prepare(tmp_path, IMAGE, frames, workers=2)
    names = sorted(path.name for path in tmp_path.rglob("pixels_*"))
    assert names == ["pixels_0000.npy", "pixels_0001.npy"]


def _write_number(place, spec, frames, shard):
    for path in data._shard_files(place, shard):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((data.SHARD, 1), shard))


def test_view_at_full_size_is_what_the_car_sees():
    frames = FrameRange(Split.TRAIN, 3, 1, full_size=True, seed=9)
    pixels, lanes = network_view(IMAGE, frames, 0)
    scene = render(9, 3, Split.TRAIN)
    assert np.array_equal(pixels, IMAGE.resize(scene.frame))
    for slot, lane in zip(scene.lane_slots, scene.lanes, strict=True):
        assert np.array_equal(lanes[slot, : len(lane)], lane)


def test_reduced_view_shows_the_same_scene_in_the_same_place():
    spec = ImageSpec(frame_hw=(590, 1640), input_hw=(64, 256), crop_top=190)
    small = network_view(spec, FrameRange(Split.TRAIN, 0, 1), 7)
    full = network_view(spec, FrameRange(Split.TRAIN, 0, 1, full_size=True), 7)
    assert np.allclose(small[1], full[1], atol=0.01, equal_nan=True)
    assert np.abs(small[0].astype(float) - full[0]).mean() < 12


def test_crop_stays_on_a_whole_row_when_frames_are_reduced():
    for input_hw in ((128, 512), (64, 256), (32, 96), (288, 800), (590, 1640)):
        spec = ImageSpec(frame_hw=(590, 1640), input_hw=input_hw, crop_top=190)
        height, width = data._reduced_hw(spec)
        assert height * 1640 == width * 590
        assert 190 * height % 590 == 0


def test_validation_frames_are_not_learnt_from():
    learnt = FrameRange(Split.TRAIN, 0, 100_000)
    assert learnt.first + learnt.count < data.VALIDATION_FIRST


def test_damaged_cache_is_an_error_that_names_the_folder(tmp_path):
    cache = prepare(tmp_path, IMAGE, FRAMES)
    (cache.place / "pixels_0001.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(TrtLaneError, match="delete"):
        prepare(tmp_path, IMAGE, FRAMES)
