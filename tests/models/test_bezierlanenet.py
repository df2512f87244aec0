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
from trt_lane.models._deformable import DeformablePatches
from trt_lane.models.bezierlanenet import MODELS, DeformableConv

NAMES = [m.name for m in MODELS]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_agrees_with_the_official_network(shared):
    case = load_case(shared, "bezierlanenet_r18_culane")
    model = get_model("bezierlanenet.r18_culane")
    module = case.fill(model.build(), model.training_only)
    case.assert_agrees(case.run(module), ("logits", "curves"))


@pytest.mark.parametrize("name", NAMES)
def test_heads_have_the_described_shape(name):
    assert_heads_described(get_model(name))


def test_traced_network_gives_the_same_for_any_batch():
    model = get_model("bezierlanenet")
    assert_trace_agrees(model, fill_randomly(model.build()))


@pytest.mark.parametrize(
    "name",
    [
        "bezierlanenet",
        "bezierlanenet.r18_culane",
        *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[2:]),
    ],
)
def test_export_agrees(name):
    model = get_model(name)
    assert_export_agrees(model, fill_randomly(model.build()))


def test_demo_fits_in_twelve_megabytes_of_half_floats():
    parameters = sum(p.numel() for p in get_model("bezierlanenet").build().parameters())
    assert parameters < 5_500_000


def bilinear(plane, y, x):
    """The plane at a fractional place, zero outside, corner by corner."""
    total = 0.0
    for row in (floor(y), floor(y) + 1):
        for column in (floor(x), floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def test_patches_are_read_where_the_offsets_point():
    rng = np.random.default_rng(0)
    height, width = 4, 5
    plane = rng.standard_normal((height, width))
    offsets = rng.uniform(-3, 3, (18, height, width))  # many end outside the map
    offsets[:, 0, 0] = 0
    weights = rng.uniform(0, 1, (9, height, width))
    found = DeformablePatches((height, width))(
        *(torch.from_numpy(a).float()[None] for a in (plane[None], offsets, weights))
    )
    assert found.shape == (1, 1, 3 * height, 3 * width)
    for r in range(height):
        for c in range(width):
            for tap in range(9):
                i, j = divmod(tap, 3)
                y, x = r + i - 1 + offsets[2 * tap, r, c], c + j - 1 + offsets[2 * tap + 1, r, c]
                expected = weights[tap, r, c] * bilinear(plane, y, x)
                assert found[0, 0, 3 * r + i, 3 * c + j].item() == pytest.approx(expected, abs=1e-5)


def test_deformable_convolution_without_offsets_is_half_a_convolution():
    layer = DeformableConv(2, (6, 7)).eval()  # fresh offsets are 0, so every tap weighs 0.5
    x = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = layer(x, x)
        plain = torch.nn.functional.conv2d(0.5 * x, layer.weight, layer.bias, padding=1)
    assert torch.allclose(found, plain, atol=1e-5)


def test_tusimple_curves_are_read_on_the_benchmarks_rows():
    decoder = get_model("bezierlanenet.r18_tusimple").decoder
    assert sorted(decoder.rows_px) == list(range(160, 711, 10))
    assert (decoder.columns, decoder.samples, decoder.max_lanes) == (40, 720, 5)
