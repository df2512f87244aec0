import cv2
import numpy as np
import pytest
from tiny_training import straight_lanes

from training.augment import augment, mirror, move
from training.recipe import Augmentation
from trt_lane.image import ImageSpec

SPEC = ImageSpec(frame_hw=(590, 1640), input_hw=(128, 512), crop_top=190)
QUIET = Augmentation(flip=0, warp=0, colour=0, blur=0, noise=0)


def painted(lanes: np.ndarray) -> np.ndarray:
    """The network's view of a black frame with the lanes in white."""
    frame = np.zeros((*SPEC.frame_hw, 3), np.uint8)
    for lane in lanes:
        points = lane[np.isfinite(lane[:, 0])]
        cv2.polylines(
            frame, [np.round(points * 16).astype(np.int32)], False, (255,) * 3, 12, cv2.LINE_AA, 4
        )
    return SPEC.resize(frame)


def paint_column(pixels: np.ndarray, row: int, near: float) -> float:
    """Centre of the paint on a network row, within 20 columns of a guess."""
    low = max(int(near) - 20, 0)
    weight = pixels[row, low : int(near) + 21, 0].astype(float)
    assert weight.sum() > 100, "no paint there"
    return low + (weight * np.arange(len(weight))).sum() / weight.sum()


def assert_lanes_on_paint(pixels: np.ndarray, lanes: np.ndarray, tolerance_px: float = 0.7) -> None:
    """Every lane, taken to network pixels by pixel centres, runs along the middle of its paint."""
    checked = 0
    for lane in lanes:
        points = lane[np.isfinite(lane[:, 0])]
        if len(points) < 2:
            continue
        x = (points[:, 0] + 0.5) * 512 / 1640 - 0.5
        y = (points[:, 1] - 190 + 0.5) * 128 / 400 - 0.5
        order = np.argsort(y)
        for row in range(40, 110, 10):
            if not y.min() + 3 < row < y.max() - 3:
                continue
            column = np.interp(row, y[order], x[order])
            if 25 < column < 487:
                assert abs(paint_column(pixels, row, column) - column) < tolerance_px
                checked += 1
    assert checked >= 5


LANES = straight_lanes((180, 650), None, (1100, 900), (1600, 1000))


def test_lanes_lie_on_the_paint_before_any_change():
    assert_lanes_on_paint(painted(LANES), LANES)


@pytest.mark.parametrize("seed", range(6))
def test_shift_scale_rotation_and_flip_move_lanes_with_pixels(seed):
    strong = Augmentation(flip=0.5, warp=1, rotate_deg=4, colour=0, blur=0, noise=0)
    pixels, lanes = augment(painted(LANES), LANES, SPEC, strong, np.random.default_rng(seed))
    assert not np.array_equal(pixels, painted(LANES))
    assert_lanes_on_paint(pixels, lanes)


def test_flip_mirrors_the_slots():
    flipping = Augmentation(flip=1, warp=0, colour=0, blur=0, noise=0)
    pixels, lanes = augment(painted(LANES), LANES, SPEC, flipping, np.random.default_rng(0))
    assert np.isnan(lanes[2]).all()  # slot 1 was empty
    assert lanes[0, 0, 0] == pytest.approx(1639 - LANES[3, 0, 0])
    assert lanes[3, 0, 0] == pytest.approx(1639 - LANES[0, 0, 0])
    assert np.array_equal(pixels, painted(LANES)[:, ::-1])


def test_two_flips_change_nothing():
    once = move(painted(LANES), LANES, mirror(SPEC.frame_hw), SPEC)
    pixels, lanes = move(*once, mirror(SPEC.frame_hw), SPEC)
    assert np.array_equal(pixels, painted(LANES))
    assert np.allclose(lanes, LANES, atol=1e-3, equal_nan=True)


def test_points_that_leave_the_frame_are_absent():
    far_left = np.array([[1.0, 0, -700], [0, 1, 0], [0, 0, 1]])
    _, lanes = move(painted(LANES), LANES, far_left, SPEC)
    assert np.isnan(lanes[0]).all()
    assert np.nanmin(lanes[2:, :, 0]) >= 0


def test_colour_blur_and_noise_leave_the_lanes():
    loud = Augmentation(flip=0, warp=0, colour=1, blur=1, noise=1)
    pixels, lanes = augment(painted(LANES), LANES, SPEC, loud, np.random.default_rng(1))
    assert np.array_equal(lanes, LANES, equal_nan=True)
    assert pixels.dtype == np.uint8 and not np.array_equal(pixels, painted(LANES))


def test_no_augmentation_is_no_change():
    pixels, lanes = augment(painted(LANES), LANES, SPEC, QUIET, np.random.default_rng(0))
    assert np.array_equal(pixels, painted(LANES))
    assert lanes is LANES
