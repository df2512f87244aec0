from dataclasses import replace

import numpy as np
import pytest
from official_cases import official_cases

from trt_lane.decoders._lane_nms import lane_nms
from trt_lane.decoders.line_anchor import LineAnchor

LANEATT = LineAnchor((590, 1640), 1000, 72, 3, x_full=640, x_px=1, length_strips=1)
CLRNET = LineAnchor(
    (590, 1640),
    192,
    72,
    4,
    x_full=1,
    x_px=799,
    length_strips=71,
    crop_top=270,
    threshold=0.4,
    inclusive=True,
)
# Eleven offsets, one every 10 px of a 100 px frame; x in pixels of a 200 px input.
SMALL = LineAnchor((100, 400), 4, 11, 3, x_full=200, x_px=1, length_strips=1, distance_px=20)


def split(packed, extent_channels):
    """The heads of the official code's one tensor per image."""
    return {
        "cls": packed[:, :2],
        "extent": packed[:, 2 : 2 + extent_channels],
        "xs": packed[:, 2 + extent_channels :],
    }


def lines(*columns, logits=None, starts=None, lengths=None):
    """Heads of SMALL with straight lines of full length at these columns."""
    columns = np.float32([*columns, *[0] * (4 - len(columns))])
    margins = np.float32([5 - i for i in range(len(columns))] if logits is None else logits)
    margins[np.count_nonzero(columns) :] = -9
    extent = np.zeros((4, 3), np.float32)
    extent[:, 0] = 0 if starts is None else np.float32(starts) / 10
    extent[:, 2] = 11 if lengths is None else lengths
    return {
        "cls": np.stack([np.zeros(4, np.float32), margins], axis=1),
        "extent": extent,
        "xs": np.repeat(columns[:, None], 11, axis=1),
    }


@pytest.mark.parametrize(
    ("name", "head", "decoder"),
    [("laneatt", "proposals", LANEATT), ("clrnet", "predictions", CLRNET)],
)
def test_equals_the_official_postprocessing(shared, name, head, decoder):
    cases = official_cases(shared, name)
    assert sum(len(lanes) for _, lanes in cases) > 70
    for given, expected in cases:
        found = decoder(**split(given[head], decoder.extent_channels))
        assert len(found) == len(expected)
        for points, score, lane in zip(found.lanes(), found.scores, expected, strict=True):
            official = np.float64(lane["points"])[::-1] * [1640, 590]  # top first
            assert points.shape == official.shape
            assert np.abs(points - official).max() < 1e-3
            assert abs(score - lane.get("score", score)) < 1e-6


def test_lane_goes_from_the_bottom_upwards_in_frame_pixels():
    lanes = SMALL(**lines(50))
    assert lanes.points[0].tolist() == [[100, y] for y in range(100, -1, -10)]
    assert lanes.scores.tolist() == pytest.approx([1 / (1 + np.exp(-5))])


def test_offsets_span_the_frame_below_the_crop():
    lanes = replace(SMALL, crop_top=50)(**lines(50))
    assert lanes.points[0, :, 1].tolist() == list(range(100, 49, -5))


@pytest.mark.parametrize(
    ("start", "length", "rows"),
    [(0, 4, (100, 70)), (3, 4, (100, 40)), (0, 3.5, (100, 70)), (0, 2.5, (100, 90))],
)
def test_lane_ends_after_its_length_and_starts_at_the_bottom(start, length, rows):
    points = SMALL(**lines(50, starts=start, lengths=length)).points[0]
    assert (points[0, 1], points[-1, 1]) == rows  # halves round to even


def test_lane_extends_downwards_only_while_inside_the_image():
    heads = lines(50, starts=6)
    heads["xs"][0] = [50, 60, -1, 50, 60, 70, 80, 90, 210, -5, 90]
    points = SMALL(**heads).lanes()[0]
    # From offset 3; above the start only what lies left of the image is absent.
    assert points[:, 1].tolist() == [70, 60, 50, 40, 30, 20, 0]
    assert points[5] == pytest.approx([420, 20])


@pytest.mark.parametrize(("length", "points"), [(1, 0), (2, 2), (0, 0), (-1e30, 0), (1e30, 11)])
def test_lane_needs_two_points(length, points):
    found = SMALL(**lines(50, lengths=length)).lanes()
    assert [len(lane) for lane in found] == ([points] if points else [])


def test_negative_length_cuts_as_the_official_slice_does():
    # From 0 with length -2, end + 1 is -2: the official xs[-2:] = absent leaves all others.
    assert SMALL(**lines(50, lengths=-2)).lanes()[0][:, 1].tolist() == list(range(100, 10, -10))
    assert len(SMALL(**lines(50, lengths=-11))) == 0


def test_threshold_itself_is_a_lane_only_if_inclusive():
    heads = lines(50, logits=[0, 0, 0, 0])  # probability one half
    assert len(SMALL(**heads)) == 0
    assert len(replace(SMALL, inclusive=True)(**heads)) == 1


@pytest.mark.parametrize(("gap", "lanes"), [(19.5, 1), (20, 2)])
def test_line_nearer_than_the_distance_to_a_better_one_is_dropped(gap, lanes):
    assert len(SMALL(**lines(50, 50 + gap))) == lanes


def test_nms_distance_is_taken_in_scaled_units():
    heads = lines(50, 60)
    heads["xs"] /= 200
    decoder = replace(SMALL, x_full=1, x_px=200)
    assert len(decoder(**heads)) == 1
    assert len(replace(decoder, x_px=1000)(**heads)) == 2


def test_line_near_a_dropped_one_stays():
    assert SMALL(**lines(50, 65, 80)).points[:, 0, 0].tolist() == [100, 160]


def test_of_equal_scores_the_first_line_stays():
    heads = lines(50, 55, logits=[30, 40, 0, 0])  # both probabilities are 1 in float32
    assert SMALL(**heads).points[:, 0, 0].tolist() == [100]
    heads = lines(50, 55, logits=[3, 4, 0, 0])
    assert SMALL(**heads).points[:, 0, 0].tolist() == [110]


def test_lines_without_a_common_strip_both_stay():
    heads = lines(50, 52, starts=[0, 6, 0, 0], lengths=[5, 5, 0, 0])
    heads["xs"][1, :6] = -1
    assert len(SMALL(**heads)) == 2
    heads = lines(50, 52, starts=[0, 4, 0, 0], lengths=[5, 5, 0, 0])
    assert len(SMALL(**heads)) == 1


def test_at_most_the_wanted_lanes_stay():
    heads = lines(20, 60, 100, 140)
    found = replace(SMALL, max_lanes=2)(**heads).points[:, 0, 0]
    assert found == pytest.approx([40, 120])
    assert len(SMALL(**heads)) == 4


def kernel(a, b, threshold):
    """The comparison of nms_kernel.cu, one scalar at a time, with C's conversions."""
    f, strips = np.float32, len(a) - 6
    start_a = int(float(f(a[2] * f(strips))) + 0.5)
    start_b = int(float(f(b[2] * f(strips))) + 0.5)
    start = max(start_a, start_b)
    ends = []
    for begin, line in ((start_a, a), (start_b, b)):
        end = float(f(f(f(begin) + line[4]) - f(1))) + 0.5 - float(f(line[4] - f(1)) < 0)
        ends.append(int(end))
    end = min(*ends, strips)
    if end < start:
        return False
    distance, i = f(0), (5 + start) % 256
    while i <= 5 + end:
        distance = f(distance + (f(b[i] - a[i]) if a[i] < b[i] else f(a[i] - b[i])))
        i += 1
    return bool(distance < f(f(threshold) * f(end - start + 1)))


def test_nms_is_the_kernels_also_for_lines_that_start_below_the_image():
    rng = np.random.default_rng(5)
    verdicts = []
    for _ in range(2000):
        pair = rng.normal(50, 12, (2, 5 + 11)).astype(np.float32)
        pair[:, 2] = rng.uniform(-1.2, 1.1, 2)
        pair[:, 4] = rng.choice([-3, -1, 0, 0.5, 1, 2.5, 7, 12], 2) + rng.normal(0, 0.3, 2)
        kept = lane_nms(pair, np.float32([0.9, 0.8]), 15, 2).tolist()
        verdicts.append(kernel(pair[0], pair[1], 15))
        assert kept == ([0] if verdicts[-1] else [0, 1])
    assert 100 < sum(verdicts) < 1900


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("head", ["cls", "extent", "xs"])
def test_lines_that_are_not_finite_are_no_lanes(bad, head):
    heads = lines(50, 52)
    heads[head][0, 1] = bad
    lanes = SMALL(**heads)
    assert lanes.points[:, 0, 0].tolist() == [104]
    assert len(SMALL(**{k: np.full_like(v, bad) for k, v in heads.items()})) == 0


@pytest.mark.filterwarnings("error")
def test_huge_numbers_do_not_overflow():
    heads = {k: np.full_like(v, 3e38) for k, v in lines().items()}
    heads["cls"][:, 0] = -3e38
    heads["xs"][:] = 50
    lanes = replace(SMALL, length_strips=71)(**heads)
    # They start far above the image, share no strip, and extend down to its bottom.
    assert lanes.points.shape == (4, 11, 2)
    assert lanes.scores.tolist() == [1] * 4
    heads["extent"][:] = -3e38
    heads["xs"][:] = 3e38
    assert np.isfinite(SMALL(**heads).points).all()


@pytest.mark.parametrize("name", ["cls", "extent", "xs"])
def test_wrong_shape_states_the_expected_one(name):
    heads = lines(50)
    heads[name] = heads[name][:, 1:]
    with pytest.raises(ValueError, match=rf"{name} has shape \(4, \d+\); expected \(4, "):
        SMALL(**heads)


@pytest.mark.parametrize(
    "change",
    [{"anchors": 0}, {"offsets": 1}, {"extent_channels": 2}, {"x_full": 0}, {"crop_top": 100}],
)
def test_impossible_numbers_are_refused(change):
    with pytest.raises(ValueError):
        replace(SMALL, **change)
