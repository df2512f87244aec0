"""Folders of images and video files, whole and damaged."""

from __future__ import annotations

import pytest
from made_images import write_image

from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError


def test_folder_is_searched_in_natural_order_at_any_size(tmp_path):
    for name, hw in (("10.jpg", (30, 40)), ("9.png", (50, 60)), ("sub/1.JPG", (70, 80))):
        write_image(tmp_path / name, hw)
    write_image(tmp_path / ".cache" / "hidden.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    dataset = open_dataset(f"images:{tmp_path}")
    assert [s.name for s in dataset] == ["9.png", "10.jpg", "sub/1.JPG"]
    assert [s.frame.shape for s in dataset] == [(50, 60, 3), (30, 40, 3), (70, 80, 3)]
    assert dataset.metric is None
    assert dataset[0].lanes is None


def test_one_image_is_a_data_set(tmp_path):
    write_image(tmp_path / "x.png")
    assert [s.name for s in open_dataset(str(tmp_path / "x.png"))] == ["x.png"]


@pytest.mark.parametrize("content", [b"just some text\n", b""])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(TrtLaneError, match=r"bad.jpg is not an image"):
        open_dataset(f"images:{tmp_path}")[0]


def test_video_gives_the_same_frames_by_index_and_in_turn(video_file):
    dataset = open_dataset(f"video:{video_file}")
    frames = [sample.frame for sample in dataset]
    assert len(frames) == len(dataset) == 10
    for index in (7, 2, 2, 9):
        assert (dataset[index].frame == frames[index]).all()


def test_stride_takes_every_nth_frame(video_file):
    all_frames = [s.frame for s in open_dataset(f"video:{video_file}")]
    third = open_dataset(f"video:{video_file}:3")
    assert [s.name for s in third] == [f"clip/{n:06d}.jpg" for n in (0, 3, 6, 9)]
    assert len(third) == 4
    assert all((s.frame == all_frames[3 * i]).all() for i, s in enumerate(third))
    assert (third[2].frame == all_frames[6]).all()


@pytest.mark.parametrize("content", [b"", b"text, not video\n" * 50])
def test_what_is_no_video_is_named(tmp_path, content):
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(TrtLaneError, match=r"bad.mp4 .* is not a video"):
        open_dataset(f"video:{tmp_path / 'bad.mp4'}")


def test_video_that_ends_early_says_where(video_file):
    dataset = open_dataset(f"video:{video_file}")
    dataset._length = 20  # as if the index promised more
    with pytest.raises(TrtLaneError, match="ends after 10 frames"):
        dataset[15]
    assert len(list(dataset)) == 10
