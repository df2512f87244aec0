import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from trt_lane.datasets import synthetic
from trt_lane.datasets._road_renderer import render_scene
from trt_lane.datasets._scene_sampler import PROPORTIONS
from trt_lane.datasets.synthetic import Category, Split, contact_sheet, ground_truth, render, sample

SMALL_HW = (72, 200)
FINGERPRINT = """
import sys, zlib
import numpy as np
from trt_lane.datasets.synthetic import Split, render
shots = [render(3, i, Split.TRAIN, (72, 200)) for i in range(4)]
print(zlib.crc32(b"".join(np.concatenate([s.frame.ravel().view(np.uint8),
      *[lane.ravel().view(np.uint8) for lane in s.lanes]]).tobytes() for s in shots)))
"""


def test_two_processes_render_the_same_frames():
    prints = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(prints) == 1


def test_a_frame_does_not_depend_on_the_frames_rendered_before():
    alone = render(0, 7, Split.TEST, SMALL_HW).frame.copy()
    for index in range(3):
        render(0, index, Split.TRAIN, (144, 400))
    assert np.array_equal(render(0, 7, Split.TEST, SMALL_HW).frame, alone)


def test_splits_seeds_and_indices_give_different_scenes():
    scenes = [sample(seed, i, split) for seed in (0, 1) for i in range(3) for split in Split]
    assert len({scene.view for scene in scenes}) == len(scenes)


def test_a_frame_is_a_colour_image_of_the_size_wanted():
    shot = render(0, 0, Split.TRAIN, SMALL_HW)
    assert shot.frame.shape == (*SMALL_HW, 3)
    assert shot.frame.dtype == np.uint8
    assert shot.frame.std() > 5


def test_points_are_inside_the_frame_ten_rows_apart_and_bottom_first():
    for index in range(60):
        lanes, slots = ground_truth(sample(0, index, Split.TRAIN))
        assert len(lanes) == len(slots) <= 4
        for lane in lanes:
            assert lane.dtype == np.float32
            assert len(lane) >= synthetic.MIN_LANE_POINTS
            assert ((lane[:, 0] >= 0) & (lane[:, 0] <= 1639)).all()
            assert ((lane[:, 1] > 0) & (lane[:, 1] <= 590)).all()
            assert (np.diff(lane[:, 1]) == -10).all()
            assert (lane[:, 1] % 10 == 0).all()


def test_lanes_go_from_left_to_right_and_their_slots_rise():
    for index in range(60):
        lanes, slots = ground_truth(sample(1, index, Split.TRAIN))
        assert list(slots) == sorted(set(slots))
        for left, right in pairwise(lanes):
            _, a, b = np.intersect1d(left[:, 1], right[:, 1], return_indices=True)
            assert (left[a, 0] < right[b, 0]).all()


def test_ego_lines_are_left_and_right_of_the_camera():
    for index in range(60):
        scene = sample(2, index, Split.TRAIN)
        for boundary in scene.boundaries:
            assert (boundary.offset_m > 0) == (boundary.slot >= 2)


@pytest.mark.parametrize("frame_hw", [(144, 400), (295, 820)])
def test_another_size_shows_the_same_lanes_scaled(frame_hw):
    scale = np.float32([frame_hw[1] / 1640, frame_hw[0] / 590])
    for index in range(3):
        full, _ = ground_truth(sample(0, index, Split.TRAIN))
        small = render(0, index, Split.TRAIN, frame_hw)
        assert len(small.lanes) == len(full)
        for lane, reference in zip(small.lanes, full, strict=True):
            np.testing.assert_allclose(lane, reference * scale, rtol=1e-6)


def test_another_size_shows_the_same_scene():
    large = render(0, 1, Split.TRAIN, (295, 820), Category.NORMAL).frame
    small = render(0, 1, Split.TRAIN, SMALL_HW, Category.NORMAL).frame
    shrunk = cv2.resize(large, SMALL_HW[::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("category", list(Category))
def test_every_category_comes_on_request(category):
    shot = render(0, 5, Split.CALIBRATION, SMALL_HW, category)
    assert shot.category is category
    assert bool(shot.lanes) == (category is not Category.CROSSROAD)


def test_crossroads_have_no_lanes_and_all_other_scenes_do():
    for index in range(150):
        scene = sample(4, index, Split.TEST)
        lanes, _ = ground_truth(scene)
        assert bool(lanes) == (scene.category is not Category.CROSSROAD)


def test_categories_come_in_their_proportions():
    count = 600
    seen = Counter(sample(0, index, Split.TRAIN).category for index in range(count))
    for category, share in PROPORTIONS.items():
        # four standard deviations of a binomial draw
        assert abs(seen[category] / count - share) < 4 * np.sqrt(share * (1 - share) / count)


def test_no_line_scenes_hardly_show_their_lines():
    for index in range(30):
        scene = sample(0, index, Split.TRAIN, Category.NO_LINE)
        assert scene.boundaries
        opacities = [s.opacity for s in scene.stripes if s.wobble_m == 0]
        assert max(opacities, default=0) < 0.25


@pytest.mark.parametrize(("frame_hw", "tolerance_px"), [((590, 1640), 1.0), ((144, 400), 1.5)])
def test_the_ground_truth_lies_on_the_paint_and_paint_is_brighter(frame_hw, tolerance_px):
    found = 0
    for index in range(8):
        scene = _clear(sample(0, index, Split.TEST, Category.NORMAL))
        lanes, slots = ground_truth(scene)
        grey = render_scene(scene, frame_hw).mean(axis=2)
        for lane, slot in zip(lanes, slots, strict=True):
            if slot not in (1, 2):
                continue
            errors, contrast = _paint_offsets(grey, lane)
            assert np.median(np.abs(errors)) < tolerance_px
            assert np.median(contrast) > 15
            found += 1
    assert found >= 12


def _clear(scene):
    """The scene in good light, a solid fresh line at each boundary, nothing in the way."""
    paint = replace(
        scene.stripes[-1], colour=(230, 230, 230), opacity=1.0, wear=0.0, dash_m=0.0, width_m=0.15
    )
    return replace(
        scene,
        stripes=tuple(replace(paint, offset_m=b.offset_m) for b in scene.boundaries),
        vehicles=(),
        decals=(),
        props=(),
        barriers=(),
        shadows=(),
        surface=replace(scene.surface, road=(85, 85, 85), grain=0.05, kerb=False),
        light=replace(scene.light, wet=0.0, rain=0.0, haze=0.0, shadow_strength=0.0),
        optics=replace(scene.optics, noise=1.0, gain=1.0, contrast=1.0, bonnet_px=0.0, flares=()),
    )


def _paint_offsets(grey, lane):
    """For rows of the lower part: the paint's middle minus the lane's column, and its brightness.

    In pixels of the full frame; a smaller one is compared where cv2.resize would put its pixels.
    """
    errors, contrast = [], []
    height, width = grey.shape
    scale, reach = 590 / height, max(6, round(0.03 * width))
    for row in range(int(0.68 * height), height, max(1, height // 59)):
        x_full = np.interp((row + 0.5) * scale - 0.5, lane[::-1, 1], lane[::-1, 0], right=np.nan)
        x = (x_full + 0.5) * width / 1640 - 0.5
        if np.isnan(x) or not reach <= x < width - reach - 1:
            continue
        first = round(x) - reach
        strip = grey[row, first : first + 2 * reach + 1]
        above = strip - np.median(strip)
        paint = np.where(above > above.max() / 2, above, 0)
        middle = (paint * np.arange(len(strip))).sum() / paint.sum() + first
        errors.append((middle - x) * 1640 / width)
        contrast.append(above.max())
    return errors, contrast


@pytest.mark.parametrize("frame_hw", [(590, 590), (16, 44), (0, 0), (288, 640)])
def test_a_frame_size_of_another_shape_is_refused_with_what_was_expected(frame_hw):
    with pytest.raises(ValueError, match=r"frame_hw is .*expected.*590 x 1640"):
        render(0, 0, Split.TRAIN, frame_hw)


@pytest.mark.parametrize("frame_hw", [(590, 1640), (288, 800), (160, 448), (144, 400), (295, 820)])
def test_the_usual_frame_sizes_are_accepted(frame_hw):
    assert synthetic._checked_size(frame_hw) == frame_hw


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
def test_negative_seeds_and_indices_are_refused(seed, index):
    with pytest.raises(ValueError, match="not negative"):
        sample(seed, index, Split.TRAIN)


def test_names_of_splits_and_categories_work_as_well():
    by_name = render(0, 2, "test", SMALL_HW, "night")
    by_enum = render(0, 2, Split.TEST, SMALL_HW, Category.NIGHT)
    assert np.array_equal(by_name.frame, by_enum.frame)


def test_the_contact_sheet_shows_every_category_once():
    sheet = contact_sheet(columns=3)
    assert sheet.shape == (3 * 236 + 2 * 6, 3 * 656 + 2 * 6, 3)


def test_the_command_writes_a_picture(tmp_path):
    assert synthetic.main(["--out", str(tmp_path / "sheet.jpg"), "--lanes", "--columns", "5"]) == 0
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape[1] > 3000


def test_the_command_names_a_folder_that_is_missing(tmp_path, capsys):
    assert synthetic.main(["--out", str(tmp_path / "no" / "sheet.png")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_the_ground_is_the_same_seen_from_rows_and_from_distances():
    view = sample(0, 0, Split.TRAIN).view
    rows = np.arange(330.0, 590.0, 20)
    back = view.along_road(0.0, 0.0, view.distance_m(rows))[:, 1]
    np.testing.assert_allclose(back, rows, atol=1e-6)


def test_scenes_are_plain_values():
    scene = sample(0, 3, Split.TRAIN)
    assert scene == sample(0, 3, Split.TRAIN)
