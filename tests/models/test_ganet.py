from math import floor

import numpy as np
import pytest
import torch
from exported import (
    assert_export_agrees,
    assert_heads_described,
    assert_trace_agrees,
    fill_randomly,
)
from rule import load_case

from trt_lane.model import get_model
from trt_lane.models._lane_points import LanePoints
from trt_lane.models.ganet import MODELS

NAMES = [model.name for model in MODELS]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "ganet"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_agrees_with_the_official_network(shared):
    case = load_case(shared, "ganet_r18_culane")
    model = get_model("ganet.r18_culane")
    module = case.fill(model.build(), without=model.training_only)
    case.assert_agrees(case.run(module))


@pytest.mark.parametrize("name", NAMES)
def test_heads_have_the_described_shape(name):
    assert_heads_described(get_model(name))


@pytest.mark.parametrize("name", NAMES[1:])
def test_keys_that_inference_lacks_are_declared(name):
    model = get_model(name)
    with torch.device("meta"):
        keys = set(model.network().state_dict())
    assert not any(key.startswith(model.training_only) for key in keys)
    assert model.origin.checkpoint.startswith("ganet_")


def test_every_official_configuration_is_there():
    official = {f"ganet.r{d}_{data}" for d in (18, 34, 101) for data in ("culane", "tusimple")}
    assert set(NAMES) == {"ganet"} | official


def test_large_variant_has_the_official_shapes():
    with torch.device("meta"):
        shapes = {
            k: tuple(v.shape)
            for k, v in get_model("ganet.r101_culane").network().state_dict().items()
        }
    # configs/culane/final_exp_res101_s4.py
    assert shapes["neck.trans_head.attn_layers.0.pre_conv.conv.weight"] == (256, 2048, 3, 3)
    assert shapes["neck.lateral_convs.3.conv.weight"] == (64, 256, 1, 1)
    assert shapes["neck.def_convs.0.reppoints_cls_conv.weight"] == (64, 256, 1, 9)
    assert shapes["backbone.layer3.22.conv3.weight"] == (1024, 256, 1, 1)


def test_traced_network_gives_the_same_for_any_batch():
    model = get_model("ganet")
    assert_trace_agrees(model, fill_randomly(model.build()))


def test_demo_is_small_enough_to_bundle():
    assert sum(p.numel() for p in get_model("ganet").build().parameters()) < 5_500_000


def test_aggregator_is_a_deformable_convolution_with_zeros_outside():
    torch.manual_seed(1)
    layer = LanePoints(4, 6, 3, (5, 7)).eval()
    torch.nn.init.normal_(layer.reppoints_pts_init_out.bias, std=3)  # many points fall outside
    level = torch.randn(1, 4, 5, 7)
    with torch.no_grad():
        features = layer.cls_convs(level)[0].numpy()
        hidden = torch.relu(layer.reppoints_pts_init_conv(layer.reg_convs(level)))
        points = layer.reppoints_pts_init_out(hidden)[0].numpy()
        found = layer(level)[0].numpy()
    weight = layer.reppoints_cls_conv.weight.detach().numpy()
    expected = np.zeros((4, 5, 7))
    for y, x in np.ndindex(5, 7):
        for tap in range(3):
            at_y, at_x = y + points[2 * tap, y, x], x + points[2 * tap + 1, y, x]
            expected[:, y, x] += weight[:, :, 0, tap] @ sample(features, at_y, at_x)
    assert np.abs(found - np.maximum(expected, 0)).max() < 1e-5
    assert found.max() > 0.01


def sample(features, y, x):
    """Bilinear value of (C, H, W) at a place; pixels outside are zero."""
    total = np.zeros(len(features))
    for row in (floor(y), floor(y) + 1):
        for column in (floor(x), floor(x) + 1):
            if 0 <= row < features.shape[1] and 0 <= column < features.shape[2]:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                total += share * features[:, row, column]
    return total


@pytest.mark.parametrize("name", ["ganet", *SLOW])
def test_export_agrees(name):
    model = get_model(name)
    module = fill_randomly(model.build())
    torch.nn.init.normal_(module.neck.def_convs[0].reppoints_pts_init_out.bias, std=2)
    assert_export_agrees(model, module)
