from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from exported import assert_export_agrees, assert_trace_agrees, fill_randomly
from rule import load_case

from trt_lane.image import ImageSpec, Resampling
from trt_lane.model import Head, get_model
from trt_lane.models.ufldv2 import MODELS, UFLDv2, UFLDv2PerLane

NAMES = [model.name for model in MODELS]


def small(name):
    """The variant's structure with few weights: the official ones have 90 to 210 million."""
    model = get_model(name)
    decoder = replace(model.decoder, rows=5, columns=4, row_cells=7, column_cells=6)
    image = replace(model.image, input_hw=(64, 160), resized_crop_top=0)
    per_lane = name.endswith("curvelanes")
    network = partial(
        UFLDv2PerLane if per_lane else partial(UFLDv2, norm=name.endswith("culane")),
        18,
        image.input_hw,
        decoder.head_shapes,
        width=8,
        hidden=32,
    )
    heads = tuple(Head(name, shape, "") for name, shape in decoder.head_shapes.items())
    return replace(model, image=image, heads=heads, decoder=decoder, network=network)


SMALL = [pytest.param(small(n), id=n) for n in NAMES if "r18" in n]


def test_keys_are_the_official_ones(shared):
    case = load_case(shared, "ufldv2_r18_culane")
    with torch.device("meta"):
        own = get_model("ufldv2.r18_culane").network().state_dict()
    assert {k: tuple(v.shape) for k, v in own.items()} == case.shapes


def test_every_official_configuration_is_there():
    data_sets = ("culane", "tusimple", "curvelanes")
    assert set(NAMES) == {f"ufldv2.r{d}_{data}" for d in (18, 34) for data in data_sets}


# `tta` of configs/*.py; evaluation/eval_wrapper.py evaluates TuSimple in one way only
@pytest.mark.parametrize("name", NAMES)
def test_score_says_where_it_is_one_of_test_time_augmentation(name):
    score = get_model(name).origin.official_score
    assert score.endswith("with test-time augmentation") == name.endswith("culane")


@pytest.mark.parametrize("model", SMALL)
def test_traced_network_gives_the_same_for_any_batch(model):
    assert_trace_agrees(model, fill_randomly(model.build()))


@pytest.mark.parametrize("model", SMALL)
def test_export_agrees(model):
    assert_export_agrees(model, fill_randomly(model.build()))


def test_lanes_of_the_per_lane_network_depend_on_their_own_map():
    model = small("ufldv2.r18_curvelanes")
    module = fill_randomly(model.build())
    image = torch.randn(1, 3, *model.image.input_hw, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = module(image)
        module.cls_distribute[2].bias[3] += 1  # the map of row lane 3
        after = module(image)
    changed = {k: (before[k] - after[k]).abs().amax(dim=(0, 1, 2)) > 0 for k in before}
    assert changed["loc_row"].nonzero().flatten().tolist() == [3]
    assert changed["exist_row"].nonzero().flatten().tolist() == [3]
    assert not changed["loc_col"].any()


# int(height / crop_ratio) - height: configs/, data/dataset.py
@pytest.mark.parametrize(
    ("data", "size", "cut"),
    [("culane", (320, 1600), 213), ("tusimple", (320, 800), 80), ("curvelanes", (800, 1600), 200)],
)
def test_frames_lose_their_sky_after_the_resize(data, size, cut):
    for depth in (18, 34):
        image = get_model(f"ufldv2.r{depth}_{data}").image
        assert (image.input_hw, image.resized_crop_top, image.crop_top) == (size, cut, 0)
        assert image.resampling is Resampling.ANTIALIASED


def test_anchors_are_the_official_ones():
    # utils/common.py merge_config
    rows = {
        "culane": np.linspace(0.42, 1, 72) * 590,
        "tusimple": np.linspace(160, 710, 56),
        "curvelanes": np.linspace(0.4, 1, 72) * 1440,
    }
    columns = {"culane": (81, 81), "tusimple": (41, 41), "curvelanes": (41, 81)}
    for data, expected in rows.items():
        for depth, count in zip((18, 34), columns[data], strict=True):
            decoder = get_model(f"ufldv2.r{depth}_{data}").decoder
            assert decoder.rows_px == pytest.approx(expected)
            assert decoder.columns == count


def test_image_of_a_frame_has_the_input_size():
    image = get_model("ufldv2.r18_culane").image
    assert isinstance(image, ImageSpec)
    assert image.to_tensor(np.zeros((590, 1640, 3), np.uint8)).shape == (3, 320, 1600)


@pytest.mark.parametrize("layers", [18, 34])
def test_tusimple_reads_every_lane_from_the_rows_as_it_is_officially_scored(layers):
    model = get_model(f"ufldv2.r{layers}_tusimple")
    decoder = model.decoder
    assert (decoder.row_lanes, decoder.column_lanes) == ((0, 1, 2, 3), ())
    rng = np.random.default_rng(0)
    heads = {k: rng.normal(0, 1, s).astype(np.float32) for k, s in decoder.head_shapes.items()}
    heads["exist_row"][1] += 20
    lanes = decoder(**heads)
    assert len(lanes) == 4
    heads["loc_col"] += 100 * rng.normal(0, 1, heads["loc_col"].shape).astype(np.float32)
    assert np.array_equal(decoder(**heads).points, lanes.points, equal_nan=True)
