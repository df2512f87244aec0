import math
from dataclasses import replace

import numpy as np
import pytest

from trt_lane.decoders.dynamic_mask import NO_PEAK_LOGIT, DynamicMask

SMALL = DynamicMask(
    frame_hw=(100, 240),
    crop_top=20,
    input_hw=(80, 160),
    heat_hw=(5, 10),
    mask_hw=(10, 20),
    nms_cells=1.5,
    slots=6,
)
SHARED_STARTS = replace(SMALL, steps=3)


def literal(decoder, hm_logits, masks, regs, ranges, states=None, slots=None):
    """The official post-processing told step by step; `slots` says which cell is in which slot."""
    height, width = decoder.heat_hw
    logits = hm_logits[0].clip(-math.log(9999), math.log(9999))
    seeds = []
    for y in range(height):  # row by row
        for x in range(width):
            around = logits[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            score = 1 / (1 + math.exp(-logits[y, x]))
            if logits[y, x] == around.max() and score > decoder.threshold:
                seeds.append(((x, y), score))
    groups = []
    for seed in seeds:
        for group in groups:
            if any(math.dist(seed[0], other[0]) <= decoder.nms_cells for other in group):
                group.append(seed)
                break
        else:
            groups.append([seed])
    lanes = []
    for cell, score in (group[-1] for group in groups):
        slot = slots.index(cell)
        for step in range(decoder.steps):
            at = slot if decoder.steps == 1 else (slot, step)
            lane = literal_lane(decoder, masks[at], regs[at], ranges[at])
            if len(lane) > 1:
                lanes.append((score, lane))
            if states is not None and states[at].argmax() == 0:
                break
    return lanes


def literal_lane(decoder, mask, offset, present):
    rows = [row for row, is_there in enumerate(present.argmax(axis=0)) if is_there]
    if not rows:
        return []
    first, last = max(rows[0] - 1, 0), min(rows[-1] + 1, len(mask) - 1)
    stride = decoder.input_hw[0] // decoder.mask_hw[0]
    points = []
    for row in range(last, first - 1, -1):
        weights = [math.exp(v - mask[row].max()) for v in mask[row]]
        column = int(sum(i * w for i, w in enumerate(weights)) / sum(weights))
        x = (column + offset[row, column]) * stride * decoder.frame_hw[1] / decoder.input_hw[1]
        rest = decoder.frame_hw[0] - decoder.crop_top
        points.append([x, row * stride * rest / decoder.input_hw[0] + decoder.crop_top])
    return points


def made_up(seed, decoder):
    """Heads as the network would fill them, and the cell of each slot."""
    rng = np.random.default_rng(seed)
    shapes = decoder.shapes
    logits = rng.normal(-1.5, 1.5, shapes["hm_logits"])
    if seed % 3 == 0:
        logits = logits.round()  # ties
    cells = peak_cells(logits[0], decoder)
    while len(cells) > decoder.slots:
        logits -= 0.5
        cells = peak_cells(logits[0], decoder)
    heads = {k: rng.normal(0, 4, shapes[k]).astype(np.float32) for k in shapes}
    heads["hm_logits"] = logits.astype(np.float32)
    heads["peaks"] = np.full(decoder.slots, NO_PEAK_LOGIT, np.float32)
    heads["peaks"][: len(cells)] = [logits[0, y, x] for x, y in cells]
    return heads, cells


def peak_cells(logits, decoder):
    """Cells (x, y) above the threshold, column by column."""
    height, width = decoder.heat_hw
    return [
        (x, y)
        for x in range(width)
        for y in range(height)
        if logits[y, x] == logits[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max() > 0
    ]


def empty(decoder=SMALL):
    heads = {k: np.full(shape, -9, np.float32) for k, shape in decoder.shapes.items()}
    heads["regs"][:] = 0.5
    return heads


def add_lane(heads, slot=0, cell=(4, 2), column=7, rows=range(4, 8), logit=2.0):
    x, y = cell
    heads["hm_logits"][0, y, x] = heads["peaks"][slot] = logit
    heads["masks"][slot, ..., column] = 30
    heads["ranges"][slot, ..., 1, list(rows)] = 9
    return heads


@pytest.mark.parametrize("decoder", [SMALL, SHARED_STARTS], ids=["one lane", "several lanes"])
def test_equals_the_literal_reading_of_the_official_code(decoder):
    found = 0
    for seed in range(40):
        heads, cells = made_up(seed, decoder)
        told = {k: v for k, v in heads.items() if k != "peaks"}
        expected = literal(decoder, **told, slots=cells)
        lanes = decoder(**heads)
        assert lanes.scores.tolist() == pytest.approx([score for score, _ in expected])
        for lane, (_, points) in zip(lanes.lanes(), expected, strict=True):
            assert lane.shape == np.shape(points)
            assert np.abs(lane - points).max() < 1e-3
        found += len(expected)
    assert found > 40


def test_lane_goes_from_the_bottom_upwards_in_frame_pixels():
    lanes = SMALL(**add_lane(empty()))
    # column 7.5 of 8 px, 240 / 160 frame pixels each; rows 8 to 3 of 8 px below row 20
    assert lanes.points[0].tolist() == [[90, 84], [90, 76], [90, 68], [90, 60], [90, 52], [90, 44]]
    assert lanes.scores.tolist() == pytest.approx([0.880797])


def test_range_ends_at_the_mask():
    lanes = SMALL(**add_lane(empty(), rows=range(10)))
    assert lanes.points[0, [0, -1], 1].tolist() == [92, 20]


def test_gap_in_the_range_is_bridged():
    heads = add_lane(empty(), rows=(2, 7))
    assert len(SMALL(**heads).lanes()[0]) == 8


def test_lane_without_any_row_is_dropped():
    assert len(SMALL(**add_lane(empty(), rows=()))) == 0


def test_slots_follow_the_columns_and_lanes_the_rows_of_their_start_points():
    heads = add_lane(empty(), slot=0, cell=(1, 4), column=3)
    add_lane(heads, slot=1, cell=(6, 1), column=15, logit=4.0)
    assert [lane[0, 0] for lane in SMALL(**heads).lanes()] == [186, 42]


def test_of_near_start_points_the_last_one_counts_as_officially():
    heads = add_lane(empty(), slot=0, cell=(3, 2), column=3, logit=3.0)
    add_lane(heads, slot=1, cell=(4, 2), column=15, logit=3.0)
    assert [lane[0, 0] for lane in SMALL(**heads).lanes()] == [186]


def test_more_peaks_than_slots_leave_the_highest():
    decoder = replace(SMALL, slots=2)
    heads = empty(decoder)
    heads["hm_logits"][0, 2, [1, 4, 8]] = (3, 1, 2)
    heads["peaks"][:] = (3, 2)
    add_lane(heads, slot=0, cell=(1, 2), column=3, logit=3.0)
    add_lane(heads, slot=1, cell=(8, 2), column=15, logit=2.0)
    assert [lane[0, 0] for lane in decoder(**heads).lanes()] == [42, 186]


@pytest.mark.parametrize(("another", "lanes"), [((0, 0, 0), 1), ((1, 0, 1), 2), ((1, 1, 1), 3)])
def test_start_point_gives_lanes_up_to_the_first_last_one(another, lanes):
    heads = add_lane(empty(SHARED_STARTS))
    heads["states"][:] = 0  # a tie names no other lane
    heads["states"][0, :, 1] = another
    assert len(SHARED_STARTS(**heads)) == lanes


@pytest.mark.parametrize(("logit", "lanes"), [(0.0, 0), (1e-6, 1)])
def test_probability_must_exceed_the_threshold(logit, lanes):
    assert len(SMALL(**add_lane(empty(), logit=logit))) == lanes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_have_no_point(bad):
    heads = add_lane(empty())
    heads["masks"][0, 5, 2] = bad
    heads["regs"][0, 6] = bad
    assert SMALL(**heads).lanes()[0][:, 1].tolist() == [84, 76, 52, 44]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["hm_logits", "masks", "regs", "ranges"])
def test_head_that_is_not_finite_gives_no_lane(name, bad):
    heads = add_lane(empty())
    heads[name][:] = bad
    assert len(SMALL(**heads)) == 0


def test_huge_logits_do_not_overflow():
    heads = add_lane(empty(), logit=3e38)
    heads["masks"] = np.where(heads["masks"] > 0, np.float32(3e38), np.float32(-3e38))
    lanes = SMALL(**heads)
    assert lanes.points[0, 0].tolist() == [90, 84]
    assert lanes.scores.tolist() == pytest.approx([0.9999])


def test_wrong_shape_states_the_expected_one():
    heads = empty()
    heads["masks"] = heads["masks"][:5]
    with pytest.raises(ValueError, match=r"masks has shape \(5, 10, 20\); expected \(6, 10, 20\)"):
        SMALL(**heads)


def test_missing_states_are_an_error():
    heads = empty(SHARED_STARTS)
    del heads["states"]
    with pytest.raises(ValueError, match=r"expected .*states"):
        SHARED_STARTS(**heads)


@pytest.mark.parametrize(
    "change",
    [{"slots": 0}, {"slots": 51}, {"steps": 0}, {"crop_top": 100}, {"threshold": 1.0}],
)
def test_impossible_numbers_are_refused(change):
    with pytest.raises(ValueError):
        replace(SMALL, **change)
