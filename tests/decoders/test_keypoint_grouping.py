import math
from dataclasses import replace

import numpy as np
import pytest

from trt_lane.decoders.keypoint_grouping import KeypointGrouping

SMALL = KeypointGrouping(
    frame_hw=(100, 240),
    crop_top=20,
    input_hw=(80, 160),
    heat_hw=(10, 20),
    keypoint_threshold=0.4,
    min_points=3,
    root_distance=2.0,
)


def literal(decoder, kpts_hm_logits, pts_offset, int_offset):
    """The official post-processing told step by step, one number at a time."""
    height, width = decoder.heat_hw
    heat = np.clip(1 / (1 + np.exp(-kpts_hm_logits[0])), 1e-4, 1 - 1e-4).astype(np.float32)

    def is_keypoint(x, y):
        beside = [heat[y, i] for i in (x - 1, x, x + 1) if 0 <= i < width]
        return heat[y, x] == max(beside) and heat[y, x] > np.float32(decoder.keypoint_threshold)

    clusters = []
    for x in range(width):  # roots column by column
        for y in range(height):
            if not is_keypoint(x, y) or not pts_offset[1, y, x] < 1:
                continue
            for cluster in clusters:
                if any(math.dist((x, y), root) <= decoder.root_distance for root in cluster):
                    cluster.append((x, y))
                    break
            else:
                clusters.append([(x, y)])
    centres = [[sum(axis) // len(c) for axis in zip(*c, strict=True)] for c in clusters]
    lanes = [[] for _ in centres]
    for y in range(height):  # key points row by row
        for x in range(width):
            if not is_keypoint(x, y):
                continue
            root = (x + float(pts_offset[0, y, x]), y + float(pts_offset[1, y, x]))
            for lane, centre in zip(lanes, centres, strict=True):
                if math.dist(root, centre) <= decoder.root_distance:
                    at = np.float32([x, y]) + int_offset[:, y, x]
                    stride = decoder.input_hw[0] // height
                    scale_x = decoder.frame_hw[1] / decoder.input_hw[1]
                    scale_y = (decoder.frame_hw[0] - decoder.crop_top) / decoder.input_hw[0]
                    frame_x = int(float(at[0]) * stride * scale_x)
                    frame_y = int(float(at[1]) * stride * scale_y + decoder.crop_top)
                    lane.append((frame_x, frame_y))
                    break
    return [lane[::-1] for lane in lanes if len(lane) >= decoder.min_points]


def background(decoder=SMALL):
    shape = decoder.heat_hw
    return {
        "kpts_hm_logits": np.full((1, *shape), -8, np.float32),
        "pts_offset": np.full((2, *shape), 50, np.float32),
        "int_offset": np.zeros((2, *shape), np.float32),
    }


def add_lane(heads, x=5, rows=range(4, 10), logit=3.0):
    for y in rows:
        heads["kpts_hm_logits"][0, y, x] = logit
        heads["pts_offset"][:, y, x] = (0, max(rows) - y)
    return heads


def made_up(seed, decoder):
    """Lanes that run into each other, ties, stray key points and offsets that miss."""
    rng = np.random.default_rng(seed)
    height, width = decoder.heat_hw
    heads = {
        "kpts_hm_logits": rng.normal(-3, 1.5, (1, height, width)),
        "pts_offset": rng.normal(0, 6, (2, height, width)),
        "int_offset": rng.uniform(-0.2, 1.2, (2, height, width)),
    }
    for _ in range(rng.integers(0, 6)):
        bottom, vanishing = rng.uniform(0, width - 1, 2)
        for y in range(int(rng.integers(0, height // 2)), height):
            x = int(bottom + (vanishing - bottom) * (1 - (y + 1) / height))
            heads["kpts_hm_logits"][0, y, x] = rng.normal(1, 1.5)
            heads["pts_offset"][:, y, x] = rng.normal((bottom - x, height - 1 - y), 0.7)
    if seed % 3 == 0:
        heads["kpts_hm_logits"] = heads["kpts_hm_logits"].round()
    return {name: head.astype(np.float32) for name, head in heads.items()}


@pytest.mark.parametrize("threshold", [0.3, 0.4])
def test_equals_the_literal_reading_of_the_official_code(threshold):
    decoder = replace(SMALL, heat_hw=(20, 40), input_hw=(160, 320), keypoint_threshold=threshold)
    found = 0
    for seed in range(40):
        heads = made_up(seed, decoder)
        expected = literal(decoder, **heads)
        lanes = decoder(**heads)
        assert [lane.tolist() for lane in lanes.lanes()] == [
            [list(point) for point in lane] for lane in expected
        ]
        found += len(expected)
    assert found > 40


def test_lane_goes_from_the_bottom_upwards_in_frame_pixels():
    heads = add_lane(background(), x=5)
    heads["int_offset"][0, :, 5] = 0.5
    lanes = SMALL(**heads)
    assert len(lanes) == 1
    # 5.5 cells of 8 px, 240 / 160 frame pixels each; row 9 is 72 input rows below row 20
    assert lanes.points[0, 0].tolist() == [66, 92]
    assert lanes.points[0, -1].tolist() == [66, 52]


def test_coordinates_are_cut_to_whole_pixels_only_where_the_official_code_does():
    heads = add_lane(background())
    heads["int_offset"][:] = 0.3
    assert SMALL(**heads).points[0, 0].tolist() == [63, 94]
    exact = replace(SMALL, whole_pixels=False)(**heads).points[0, 0]
    assert exact.tolist() == pytest.approx([63.6, 94.4])


def test_lanes_are_told_apart_by_their_roots():
    heads = add_lane(add_lane(background(), x=3), x=12, logit=0.0)
    lanes = SMALL(**heads)
    assert [lane[0, 0] for lane in lanes.lanes()] == [36, 144]
    assert lanes.scores.tolist() == pytest.approx([0.9525741, 0.5])


def test_key_point_whose_root_is_out_of_reach_belongs_to_no_lane():
    heads = add_lane(background())
    heads["pts_offset"][0, 4, 5] = 2.01
    heads["pts_offset"][0, 5, 5] = 2.0
    assert len(SMALL(**heads).lanes()[0]) == 5


@pytest.mark.parametrize(("points", "lanes"), [(2, 0), (3, 1)])
def test_lane_needs_the_least_number_of_points(points, lanes):
    assert len(SMALL(**add_lane(background(), rows=range(10 - points, 10)))) == lanes


def test_neighbours_that_tie_are_both_key_points():
    heads = add_lane(add_lane(background(), x=5), x=6)
    assert len(SMALL(**heads).lanes()[0]) == 12


def test_no_key_point_gives_no_lane():
    assert len(SMALL(**background())) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("head", ["kpts_hm_logits", "pts_offset", "int_offset"])
def test_numbers_that_are_not_finite_give_no_point_there(head, bad):
    heads = add_lane(add_lane(background(), x=3), x=12)
    heads[head][:, :, :8] = bad
    lanes = SMALL(**heads)
    assert [lane[0, 0] for lane in lanes.lanes()] == [144]
    heads[head][:] = np.nan
    assert len(SMALL(**heads)) == 0


def test_wrong_shape_states_the_expected_one():
    heads = background()
    heads["pts_offset"] = heads["pts_offset"][:1]
    with pytest.raises(ValueError, match=r"pts_offset has shape \(1, 10, 20\); .* \(2, 10, 20\)"):
        SMALL(**heads)


@pytest.mark.parametrize(
    "change",
    [{"min_points": 0}, {"crop_top": 100}, {"keypoint_threshold": 1.0}, {"root_distance": np.nan}],
)
def test_impossible_numbers_are_refused(change):
    with pytest.raises(ValueError):
        replace(SMALL, **change)
