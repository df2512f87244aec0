import numpy as np
import pytest
import torch
from exported import fill_randomly
from filled import filled
from rule import load_case
from torch.nn import functional as F

from trt_lane.errors import TrtLaneError
from trt_lane.image import ChannelOrder, Resampling
from trt_lane.model import get_model
from trt_lane.models._checkpoint import load_checkpoint, load_weights
from trt_lane.models._line_refinement import RefinementHead
from trt_lane.models._roi_gather import ROIGather
from trt_lane.models.clrnet import MODELS, CLRNet

NAMES = [model.name for model in MODELS]


def test_agrees_with_the_official_network(shared):
    case = load_case(shared, "clrnet_r18_culane")
    model = get_model("clrnet.r18_culane")
    module = case.fill(model.build(), without=model.training_only)
    heads = case.run(module)
    case.assert_agrees({"output": torch.cat(list(heads.values()), dim=2)})


def test_keys_are_the_official_ones(shared):
    case = load_case(shared, "clrnet_r18_culane")
    model = get_model("clrnet.r18_culane")
    with torch.device("meta"):
        own = model.network().state_dict()
    official = {k: v for k, v in case.shapes.items() if not k.startswith(model.training_only)}
    assert {k: tuple(v.shape) for k, v in own.items()} == official


def test_every_official_configuration_is_there():
    trunks = {
        "culane": ("r18", "r34", "r101", "dla34"),
        "tusimple": ("r18", "r34", "r101"),
        "llamas": ("r18", "dla34"),
    }
    assert set(NAMES) == {f"clrnet.{t}_{data}" for data, names in trunks.items() for t in names}


def test_aggregating_trunk_has_the_official_shapes():
    model = get_model("clrnet.dla34_culane")
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in model.network().state_dict().items()}
    # clrnet/models/backbones/dla34.py; a root of level 4 reads two blocks and three hand-me-downs
    prefix = "backbone.model."
    assert shapes[f"{prefix}level4.tree2.root.conv.weight"] == (256, 256 * 2 + 256 + 128, 1, 1)
    assert shapes[f"{prefix}level3.tree1.project.0.weight"] == (128, 64, 1, 1)
    assert shapes[f"{prefix}level5.root.conv.weight"] == (512, 2 * 512 + 256, 1, 1)
    assert shapes[f"{prefix}level2.root.conv.weight"] == (64, 128, 1, 1)
    assert shapes["neck.lateral_convs.0.conv.weight"] == (64, 128, 1, 1)
    assert not any(key.startswith(model.training_only) for key in shapes)


def test_priors_are_lines_from_three_edges():
    priors = RefinementHead((320, 800)).priors.numpy()
    start_y, start_x, theta = priors[:, 2:5].T
    assert ((start_x[:24] == 0) & (start_x[-24:] == 1)).all()
    assert (start_y[24:168] == 0).all()
    assert start_y.max() == 0.5
    # From the start upwards a line moves by its cotangent, in pixels.
    rise = (np.arange(72) / 71 - start_y[:, None]) * 320
    expected = (start_x[:, None] * 799 + rise / np.tan(theta[:, None] * np.pi)) / 799
    assert np.abs(priors[:, 6:] - expected).max() < 1e-3


def test_lines_see_the_map_where_they_lie():
    """The layout here against the official one: every line an image of one column."""
    torch.manual_seed(0)
    gather = fill_randomly(ROIGather(4, 6, 5, ((10, 25), (20, 50))))
    maps = torch.randn(2, 4, 20, 50)
    grid = torch.rand(2, 5, 6, 2) * 2.2 - 1.1
    before = [torch.randn(2, 48, 5, 6)]
    with torch.inference_mode():
        found, stages = gather(grid, maps, before, 1)
        sampled = F.grid_sample(maps, grid.transpose(1, 2), align_corners=True)  # (2, 4, 6, 5)
        columns = sampled.permute(0, 2, 1, 3).reshape(12, 4, 5, 1)
        own = gather.convs[1](columns)
        earlier = before[0].permute(0, 3, 1, 2).reshape(12, 48, 5, 1)
        joined = gather.catconv[1](torch.cat([earlier, own], dim=1)).reshape(12, -1)
        lines = torch.relu(gather.fc_norm(gather.fc(joined))).reshape(2, 6, 4)
        keys = F.interpolate(gather.f_key(maps), (10, 25)).flatten(2)
        values = F.interpolate(gather.f_value(maps), (10, 25)).flatten(2).transpose(1, 2)
        query = torch.relu(
            F.conv1d(lines, gather.f_query[0].weight, gather.f_query[0].bias, groups=6)
        )
        context = (query @ keys / 2).softmax(-1) @ values
        context = F.conv1d(context, gather.W.weight, gather.W.bias, groups=6)
    assert torch.allclose(found, (lines + context).reshape(12, 4), atol=1e-5)
    assert torch.allclose(stages[1].permute(0, 3, 1, 2).reshape(12, 48, 5, 1), own, atol=1e-5)


def test_training_only_keys_do_not_stop_a_checkpoint(tmp_path):
    model = get_model("clrnet.dla34_llamas")
    official = {f"module.{k}": v for k, v in filled(model).state_dict().items()}
    official["module.heads.prior_embeddings.weight"] = torch.zeros(192, 3)
    official["module.heads.criterion.weight"] = torch.zeros(5)
    official["module.backbone.model.level3.project.0.weight"] = torch.zeros(128, 64, 1, 1)
    torch.save({"net": official, "epoch": 19}, tmp_path / "llamas_dla34.pth")
    module = model.build()
    load_weights(model, module, tmp_path / "llamas_dla34.pth")
    key = "heads.reg_layers.weight"
    assert torch.equal(module.state_dict()[key], official[f"module.{key}"])


def test_training_shapes_are_keys_of_the_official_checkpoint(shared):
    case = load_case(shared, "clrnet_r18_culane")
    shapes = get_model("clrnet.r18_culane").training_shapes
    assert {key: case.shapes[key] for key in shapes} == shapes


@pytest.mark.parametrize(
    ("taken_for", "data", "classes", "fits"),
    [
        ("culane", "tusimple", 7, "MODEL=clrnet.r18_tusimple"),
        ("llamas", "tusimple", 7, "MODEL=clrnet.r18_tusimple"),
        ("tusimple", "culane", 5, "MODEL=clrnet.r18_culane or MODEL=clrnet.r18_llamas"),
    ],
)
def test_checkpoint_of_another_data_set_is_refused(tmp_path, taken_for, data, classes, fits):
    official = get_model(f"clrnet.r18_{data}").build().state_dict()
    official["heads.criterion.weight"] = torch.ones(classes)
    official["heads.seg_decoder.conv.bias"] = torch.zeros(classes)
    path = tmp_path / "official.pth"
    torch.save({"net": {f"module.{k}": v for k, v in official.items()}}, path)
    load_checkpoint(get_model(f"clrnet.r18_{data}"), path)
    with pytest.raises(TrtLaneError) as refused:
        load_checkpoint(get_model(f"clrnet.r18_{taken_for}"), path)
    expected = 12 - classes
    assert str(refused.value) == (
        f"{path} is not a checkpoint of clrnet.r18_{taken_for}: the network fits, but it was "
        f"trained for other data: heads.criterion.weight is ({classes},), expected ({expected},), "
        f"heads.seg_decoder.conv.bias is ({classes},), expected ({expected},); it fits {fits}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_cut_as_the_configurations_say(name):
    model = get_model(name)
    image, data = model.image, name.rpartition("_")[2]
    cut = {"culane": (270, 590), "tusimple": (160, 720), "llamas": (300, 717)}[data]
    assert (image.crop_top, image.frame_hw[0]) == cut
    assert (model.decoder.crop_top, model.decoder.frame_hw) == (image.crop_top, image.frame_hw)
    assert (image.order, image.resampling) == (ChannelOrder.BGR, Resampling.CUBIC)
    assert (image.mean, image.std) == ((0, 0, 0), (1, 1, 1))


def test_lines_keep_to_their_image_in_a_batch():
    model = get_model("clrnet.r18_culane")
    module = filled(model)
    assert isinstance(module, CLRNet)
    image = torch.randn(1, 3, 320, 800, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        pair = module(torch.cat([image, torch.zeros_like(image)]))
        alone = module(image)
    assert torch.allclose(pair["cls"][:1], alone["cls"], atol=1e-4)
    assert not torch.allclose(pair["cls"][1:], alone["cls"], atol=1e-2)
