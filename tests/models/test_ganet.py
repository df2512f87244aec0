from math import floor

import numpy as np
import torch

from trt_lane.model import get_model
from trt_lane.models._lane_points import LanePoints
from trt_lane.models.ganet import MODELS

NAMES = [model.name for model in MODELS]


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
