import numpy as np
import pytest

from trt_lane.image import Resampling
from trt_lane.model import get_model

VARIANTS = ("ufld", "ufld.r18_culane", "ufld.r34_culane", "ufld.r18_tusimple", "ufld.r34_tusimple")


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
