import numpy as np
import pytest
import torch
from rule import load_case
from torch import fx

from trt_lane.image import Resampling
from trt_lane.model import get_model

VARIANTS = ("ufld", "ufld.r18_culane", "ufld.r34_culane", "ufld.r18_tusimple", "ufld.r34_tusimple")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_agrees_with_the_official_network(shared):
    case = load_case(shared, "ufld_r18_culane")
    module = case.fill(get_model("ufld.r18_culane").build())
    case.assert_agrees(case.run(module))


@pytest.mark.parametrize("name", VARIANTS)
def test_heads_have_the_described_shape(name):
    model = get_model(name)
    with torch.inference_mode(), torch.device("meta"):
        module = model.network().eval()
        outputs = module(torch.empty(2, 3, *model.image.input_hw))
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        head.name: (2, *head.shape) for head in model.heads
    }


def test_traced_network_gives_the_same_for_any_batch():
    torch.manual_seed(0)
    model = get_model("ufld")
    module = model.build()
    x = torch.randn(2, 3, *model.image.input_hw)
    with torch.inference_mode():
        traced = fx.symbolic_trace(module)(x)["logits"]
        single = module(x[:1])["logits"]
    assert torch.allclose(traced[:1], single, atol=1e-5)


def test_demo_fits_in_twelve_megabytes_of_half_floats():
    parameters = sum(p.numel() for p in get_model("ufld").build().parameters())
    assert parameters < 5_500_000
    assert 2 * parameters < 12e6


def test_demo_rows_are_seen_by_the_network():
    model = get_model("ufld")
    assert model.demo
    assert model.image.resampling is Resampling.LINEAR
    assert min(model.decoder.rows_px) > model.image.crop_top
    assert max(model.decoder.rows_px) <= model.image.frame_hw[0]
    assert model.decoder.cells * model.decoder.cell_px == pytest.approx(model.image.frame_hw[1])


@pytest.mark.parametrize("name", VARIANTS[1:])
def test_official_variants_take_pillow_resized_whole_frames(name):
    image = get_model(name).image
    assert image.resampling is Resampling.ANTIALIASED
    assert (image.crop_top, image.input_hw) == (0, (288, 800))


def test_tusimple_points_lie_on_the_benchmarks_rows():
    decoder = get_model("ufld.r18_tusimple").decoder
    logits = np.zeros(decoder.head_shape, np.float32)
    logits[40] = 50  # every lane of every row in cell 40
    lanes = decoder(logits=logits)
    assert lanes.points[0, :, 1].tolist() == list(range(710, 150, -10))
    # evaluation/eval_wrapper.py: round((40 + 0.5) * 1280.0 / 99) = 524
    assert np.round(lanes.points[..., 0]).tolist() == [[524] * 56] * 4
