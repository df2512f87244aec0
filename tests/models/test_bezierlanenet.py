from math import floor

import numpy as np
import pytest
import torch

from trt_lane.model import get_model
from trt_lane.models._deformable import DeformablePatches
from trt_lane.models.bezierlanenet import DeformableConv


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
