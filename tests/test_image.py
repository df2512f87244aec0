import json
import tracemalloc

import cv2
import numpy as np
import pytest

from trt_lane.errors import TrtLaneError
from trt_lane.image import ChannelOrder, ImageSpec, Resampling

CULANE = ImageSpec((590, 1640), (288, 800))
SPECS = (
    CULANE,
    ImageSpec((590, 1640), (320, 1600), resized_crop_top=213, resampling=Resampling.ANTIALIASED),
    ImageSpec((720, 1280), (360, 640), (0, 0, 0), (1, 1, 1), ChannelOrder.BGR),
    ImageSpec((590, 1640), (320, 800), crop_top=270, resampling=Resampling.CUBIC),
)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((59, 164), (29, 80)),
        ((59, 164), (59, 80)),  # one axis untouched
        ((59, 164), (20, 164)),
        ((31, 47), (90, 120)),  # larger
        ((50, 30), (13, 71)),  # smaller and larger
        ((7, 5), (7, 5)),
        ((590, 1640), (320, 1600)),
        ((3, 200), (1, 1)),
        ((1, 1), (4, 6)),
    ],
)
@pytest.mark.parametrize("kind", ["noise", "black and white"])
def test_antialiased_resize_is_pillows_bit_by_bit(source, target, kind):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    frame = noise(*source)
    if kind == "black and white":
        frame = (frame > 127).astype(np.uint8) * 255
    spec = ImageSpec(source, target, resampling=Resampling.ANTIALIASED)
    image, bilinear = image_module.fromarray(frame), image_module.BILINEAR
    # One axis at a time: Pillow before 13, with which the networks were trained, starts across;
    # since 13 it starts down when the height shrinks more, which rounds some pixels otherwise.
    across_first = image.resize((target[1], source[0]), bilinear).resize(target[::-1], bilinear)
    resized = spec.resize(frame)
    np.testing.assert_array_equal(resized, np.asarray(across_first))
    at_once = np.asarray(image.resize(target[::-1], bilinear), np.int16)
    assert np.abs(resized - at_once).max() <= 1


def test_antialiased_resize_holds_its_sums_of_a_few_lines_at_a_time():
    frame = noise(590, 1640)
    spec = ImageSpec((590, 1640), (288, 800), resampling=Resampling.ANTIALIASED)
    tracemalloc.start()
    try:
        spec.resize(frame)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The frame turned on its side and what it becomes, 8 bits each; in 32 bits it would be 5 times.
    assert most < 2.5 * frame.nbytes


@pytest.mark.parametrize(
    ("resampling", "flag"),
    [(Resampling.LINEAR, cv2.INTER_LINEAR), (Resampling.CUBIC, cv2.INTER_CUBIC)],
)
def test_other_resampling_is_opencvs_after_both_crops(resampling, flag):
    frame = noise(59, 164)
    spec = ImageSpec((590, 1640), (24, 80), crop_top=100, resized_crop_top=6, resampling=resampling)
    expected = cv2.resize(frame[10:], (80, 30), interpolation=flag)[6:]
    np.testing.assert_array_equal(spec.resize(frame), expected)


@pytest.mark.parametrize("order", list(ChannelOrder))
def test_tensor_is_pixels_normalised_in_the_networks_channel_order(order):
    spec = ImageSpec((20, 40), (20, 40), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), order)
    frame = noise(20, 40)
    pixels = frame[:, :, ::-1] if order is ChannelOrder.RGB else frame
    expected = (pixels / 255 - np.array(spec.mean)) / np.array(spec.std)
    tensor = spec.to_tensor(frame)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, expected.transpose(2, 0, 1), atol=2e-6)


def test_a_frame_view_with_negative_strides_is_read_like_its_copy():
    frame = noise(59, 164)[:, ::-1, ::-1]
    np.testing.assert_array_equal(CULANE.to_tensor(frame), CULANE.to_tensor(frame.copy()))


@pytest.mark.parametrize("spec", SPECS)
def test_spec_survives_json(spec):
    assert ImageSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"std": (0.2, 0.2, 0.0)},
        {"std": (0.2, 0.2, -1.0)},
        {"std": (0.2, float("nan"), 0.2)},
        {"std": (float("inf"), 0.2, 0.2)},
        {"mean": (0.2, float("nan"), 0.2)},
        {"mean": (0.2, 0.2)},
        {"frame_hw": (0, 1640)},
        {"input_hw": (288, -800)},
        {"frame_hw": (590, 1640, 3)},
        {"crop_top": 590},
        {"crop_top": -1},
        {"resized_crop_top": -1},
        {"order": "GBR"},
        {"resampling": "nearest"},
    ],
)
def test_spec_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError):
        ImageSpec.from_dict(CULANE.to_dict() | change)


@pytest.mark.parametrize(
    "frame",
    [
        None,
        [[0]],
        noise(59, 164).astype(np.float32),
        noise(59, 164).astype(np.uint16),
        noise(59, 164)[:, :, 0],
        noise(59, 164)[:, :, :1],
        np.zeros((59, 164, 4), np.uint8),
        np.zeros((0, 164, 3), np.uint8),
        np.zeros((1, 3, 3), np.uint8),
        noise(59, 164)[None],
    ],
)
def test_what_is_no_frame_is_refused_with_what_was_expected(frame):
    with pytest.raises(TrtLaneError, match=r"expected .*\(H, W, 3\) BGR"):
        CULANE.to_tensor(frame)


def test_frame_of_another_aspect_ratio_is_refused_with_both_sizes():
    with pytest.raises(TrtLaneError, match="640x480; expected 1640x590"):
        CULANE.to_tensor(noise(480, 640))


def test_frame_of_the_same_view_may_have_any_resolution():
    assert CULANE.to_tensor(noise(295, 820)).shape == (3, 288, 800)


@pytest.mark.parametrize("spec", SPECS)
def test_corners_of_the_input_map_to_the_corners_of_what_the_network_sees(spec):
    height, width = spec.input_hw
    corners = spec.points_to_frame(np.array([[0, 0], [width, height]]))
    scale = (spec.frame_hw[0] - spec.crop_top) / (height + spec.resized_crop_top)
    top = spec.crop_top + spec.resized_crop_top * scale
    np.testing.assert_allclose(corners, [[0, top], spec.frame_hw[::-1]], rtol=1e-6)
