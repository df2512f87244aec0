import numpy as np
import pytest
import torch

from trt_lane.model import get_model
from trt_lane.models._message_passing import Resa


def test_shifts_are_circular_and_double():
    layer = Resa(1, (8, 8), iterations=3, alpha=1.0)
    for conv in layer.modules():
        if isinstance(conv, torch.nn.Conv2d):
            torch.nn.init.zeros_(conv.weight)
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 2, 3] = 1
    for i, shift in enumerate((1, 2, 4)):
        layer.conv_d[i].weight.data[0, 0, 0, 4] = 1  # x[r] += relu(x[(r + shift) % 8])
        assert layer(x)[0, 0, :, 3].nonzero().flatten().tolist() == sorted([2, (2 - shift) % 8])
        layer.conv_d[i].weight.data.zero_()
    layer.conv_l[2].weight.data[0, 0, 4, 0] = 1
    assert layer(x)[0, 0, 2].nonzero().flatten().tolist() == [3, 7]


@pytest.mark.parametrize(
    ("name", "first_linear", "iterations"),
    [("r18_culane", 4500, 5), ("mobilenetv2_culane", 1125, 4), ("mobilenetv3_tusimple", 1100, 4)],
)
def test_sizes_are_the_configured_ones(name, first_linear, iterations):
    with torch.device("meta"):
        network = get_model(f"resa.{name}").network()
    assert network.lane_classifier.linear1.in_features == first_linear
    assert len(network.spatial_conv.conv_d) == iterations


def test_map_that_is_rounded_up_to_the_stride_is_decoded():
    model = get_model("resa.mobilenetv2_tusimple")
    assert model.heads[0].shape == (7, 184, 320)  # the input is 360x640
    out = np.zeros(model.heads[0].shape, np.float32)
    out[1] = 12 - np.abs(np.arange(320) - 160)
    lane = np.float32([9, -9, -9, -9, -9, -9])
    lanes = model.decoder(out=out, lane=lane)
    assert len(lanes) == 1
    assert lanes.points[0, :, 0] == pytest.approx(640, abs=4)
