import pytest
import torch
from exported import fill_randomly

from trt_lane.model import get_model
from trt_lane.models._message_passing import SpatialConv
from trt_lane.models._repvgg import RepVGGBlock


def test_messages_pass_from_edge_to_edge_but_leave_the_last_row_of_the_way_back():
    layer = SpatialConv(1, (4, 5))
    for conv in (layer.conv_d, layer.conv_u, layer.conv_r, layer.conv_l):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    layer.conv_d.weight.data[0, 0, 0, 4] = 1  # x[i] += relu(x[i - 1])
    x = torch.zeros(1, 1, 4, 5)
    x[0, 0, 0, 2] = 1
    assert layer(x)[0, 0, :, 2].tolist() == [1, 1, 1, 1]
    layer.conv_d.weight.data.zero_()
    layer.conv_u.weight.data[0, 0, 0, 4] = 1
    assert layer(x.flip(2))[0, 0, :, 2].tolist() == [0, 1, 1, 1]


# torchvision's vgg16_bn indices without the pools 33 and 43, dilated from 34 on (vgg_encoder.py)
def test_vgg_trunk_has_torchvisions_indices_and_dilates_after_the_dropped_pool():
    with torch.device("meta"):
        net = get_model("scnn.vgg16_culane").network().encoder.net
    indices = [int(name) for name, _ in net.named_children()]
    assert indices == [i for i in range(43) if i != 33]
    dilated = [n for n, m in net.named_children() if getattr(m, "dilation", 1) == (2, 2)]
    assert dilated == ["34", "37", "40"]


@pytest.mark.parametrize(
    ("name", "first_linear"),
    [
        ("r18_culane", 4500),
        ("r101_tusimple", 6160),
        ("vgg16_llamas", 4400),
        ("erfnet_llamas", 4400),
    ],
)
def test_existence_head_has_the_configured_size(name, first_linear):
    with torch.device("meta"):
        classifier = get_model(f"scnn.{name}").network().lane_classifier
    assert classifier.linear1.in_features == first_linear


@pytest.mark.parametrize("identity", [False, True])
def test_repvgg_block_is_the_sum_of_its_branches(identity):
    block = RepVGGBlock(8, 8, 1, 2)
    fill_randomly(block.with_identity() if identity else block)
    dense, point = block.rbr_dense, block.rbr_1x1
    x = torch.randn(2, 8, 9, 11, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = block(x)
        branches = dense.bn(torch.conv2d(x, dense.conv.weight, padding=2, dilation=2))
        branches = branches + point.bn(point.conv(x))
        if identity:
            branches = branches + block.rbr_identity(x)
    assert torch.allclose(found, branches.relu(), atol=1e-5)
