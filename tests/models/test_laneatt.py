import numpy as np
import pytest
import torch
from exported import fill_randomly
from rule import load_case

from trt_lane.errors import TrtLaneError
from trt_lane.image import ChannelOrder, Resampling
from trt_lane.model import get_model
from trt_lane.models._checkpoint import load_weights
from trt_lane.models._folded import weights_digest
from trt_lane.models._line_anchors import LineAnchors
from trt_lane.models.laneatt import MODELS

NAMES = [model.name for model in MODELS]
OFFICIAL = NAMES[1:]


@pytest.fixture(scope="module")
def candidates():
    return LineAnchors.around(72, 128)


def order_of(proposals, candidates):
    """Which candidates official proposals (A, 77) stand on: same start, nearest by angle.

    In the lower corners the side's and the bottom's candidates are the same lines; any serves.
    """
    extents, xs = candidates.extents(), candidates.xs(72, 640)
    order = []
    for proposal in proposals:
        same = np.flatnonzero((extents[:, :2] == proposal[2:4]).all(axis=1))
        order.append(same[np.abs(xs[same] - proposal[5:]).max(axis=1).argmin()])
    return np.array(order)


def test_agrees_with_the_official_network(shared, candidates):
    case = load_case(shared, "laneatt_r18_culane")
    module = case.fill(get_model("laneatt.r18_culane").build())
    order = order_of(case.outputs["proposals"][0], candidates)
    module.choose(order)
    heads = case.run(module)
    case.assert_agrees({"proposals": torch.cat(list(heads.values()), dim=2)})


def test_every_official_configuration_is_there():
    data_sets = ("culane", "tusimple", "llamas")
    expected = {f"laneatt.r{d}_{data}" for d in (18, 34, 122) for data in data_sets}
    assert set(NAMES) == {"laneatt"} | expected


def test_thin_trunk_has_the_official_shapes():
    with torch.device("meta"):
        state = get_model("laneatt.r122_culane").network().state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    # lib/models/resnet.py: three stages of twenty blocks, no weights in the shortcuts
    assert shapes["feature_extractor.layer3.19.conv2.weight"] == (64, 64, 3, 3)
    assert shapes["feature_extractor.layer2.0.conv1.weight"] == (32, 16, 3, 3)
    assert shapes["attention_layer.weight"] == (999, 64 * 90)
    convolutions = [key for key in shapes if "conv" in key and key.startswith("feature")]
    assert len(convolutions) == 121


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_variants_take_opencv_frames_without_mean_and_std(name):
    image = get_model(name).image
    assert (image.order, image.resampling) == (ChannelOrder.BGR, Resampling.CUBIC)
    assert (image.mean, image.std, image.input_hw) == ((0, 0, 0), (1, 1, 1), (360, 640))


def test_anchors_are_straight_lines_at_their_angle(candidates):
    assert len(candidates) == 2 * 72 * 6 + 128 * 15
    upright = np.flatnonzero(candidates.degrees == 90)
    xs = candidates.xs(72, 640)
    assert xs[upright].max(axis=1) == pytest.approx(640 * candidates.starts[upright, 1], abs=1e-3)
    first = xs[0]  # left edge, lower corner, 72 degrees
    assert first[0] == 0
    assert first[-1] == pytest.approx(640 / np.tan(np.radians(72)), rel=1e-5)


def test_anchor_collects_the_cells_it_crosses_from_the_top():
    one = LineAnchors(np.array([[1.0, 0.5]]), np.array([45.0]))
    # At 0, 1/3, 2/3 and 1 of the height it lies at 2, 3.33, 4.67 and 6 of 4 columns.
    assert one.cells((4, 4), 8).tolist() == [[16, 16, 3 + 8, 2 + 12]]
    edge = LineAnchors(np.array([[1.0, 1.0]]), np.array([90.0]))
    assert edge.cells((2, 4), 8).tolist() == [[3, 7]]  # on the right edge: the last column


def test_features_outside_the_map_are_zero():
    module = get_model("laneatt").build()
    features = torch.rand(2, 64, *module.map_hw) + 1
    lines = module.collect(features).reshape(2, module.count, 64, module.map_hw[0])
    cells = module.cells.reshape(module.count, -1)
    outside = cells == module.map_hw[0] * module.map_hw[1]
    assert outside.any()
    assert not lines.transpose(2, 3)[:, outside].any()
    for anchor, row in ((0, 0), (400, 3), (767, 7)):
        if not outside[anchor, row]:
            y, x = divmod(int(cells[anchor, row]), module.map_hw[1])
            assert y == row
            assert torch.equal(lines[1, anchor, :, row], features[1, :, y, x])


def test_no_line_attends_to_itself():
    module = fill_randomly(get_model("laneatt").build())
    count = module.count
    lines = torch.randn(2 * count, module.line_features)
    with torch.inference_mode():
        weights = module.attend(lines)
        others = module.attention_layer(lines).softmax(dim=1).reshape(2, count, count - 1)
    assert not weights.diagonal(dim1=1, dim2=2).any()
    for line in (0, 1, 300, count - 1):
        assert torch.equal(weights[:, line, :line], others[:, line, :line])
        assert torch.equal(weights[:, line, line + 1 :], others[:, line, line:])


def saved(folder, model, counts):
    torch.save({"model": model.build().state_dict()}, folder / "model_0015.pt")
    if counts is not None:
        torch.save(counts, folder / "culane_anchors_freq.pt")
    return folder / "model_0015.pt"


def test_anchors_come_from_the_counts_beside_the_checkpoint(tmp_path, candidates):
    model = get_model("laneatt.r18_culane")
    counts = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0))
    module = model.build()
    load_weights(model, module, saved(tmp_path, model, counts))
    expected = candidates.chosen(counts.numpy().argsort()[::-1][:1000])
    assert torch.equal(module.xs, torch.from_numpy(expected.xs(72, 640)))
    assert torch.equal(module.extents, torch.from_numpy(expected.extents()))
    assert torch.equal(module.cells, torch.from_numpy(expected.cells((11, 20), 32).ravel()))


def test_other_anchors_are_other_weights(tmp_path, candidates):
    model = get_model("laneatt.r18_culane")
    counts = torch.arange(len(candidates))
    path = saved(tmp_path, model, counts)
    digests = []
    for changed in (counts, counts, counts.flip(0)):
        torch.save(changed, tmp_path / "culane_anchors_freq.pt")
        module = model.build()
        load_weights(model, module, path)
        digests.append(weights_digest(module))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (None, "no file .*culane_anchors_freq.pt.*; copy data/culane_anchors_freq.pt of https"),
        (torch.zeros(2000), r"holds \(2000,\); expected \(2784,\) counts"),
        ([1, 2, 3], r"holds list; expected \(2784,\) counts"),
        (torch.full((2784,), torch.nan), "holds NaN or infinity; expected counts"),
    ],
)
def test_checkpoint_without_its_counts_is_refused(tmp_path, counts, message):
    model = get_model("laneatt.r18_culane")
    with pytest.raises(TrtLaneError, match=message):
        load_weights(model, model.build(), saved(tmp_path, model, counts))


def test_damaged_counts_are_refused(tmp_path):
    model = get_model("laneatt.r18_culane")
    path = saved(tmp_path, model, torch.zeros(2784))
    counts = tmp_path / "culane_anchors_freq.pt"
    counts.write_bytes(counts.read_bytes()[:700])
    with pytest.raises(TrtLaneError, match="cannot be read as a tensor"):
        load_weights(model, model.build(), path)


def test_bundled_demo_needs_no_counts():
    assert get_model("laneatt").companions is None
    assert all(get_model(name).companions is not None for name in OFFICIAL)
