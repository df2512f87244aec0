import numpy as np
import pytest

from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit, fit_frame
from trt_lane.image import ImageSpec
from trt_lane.lanes import LaneSet

SPEC = ImageSpec((590, 1640), (288, 800))
SIZES = [(720, 1280), (400, 1640), (590, 1640), (1000, 300), (300, 3000), (1080, 1920)]


def marked(height, width, x, y):
    frame = np.zeros((height, width, 3), np.uint8)
    frame[y - 2 : y + 3, x - 2 : x + 3] = 255
    return frame


@pytest.mark.parametrize("fit", [Fit.CROP, Fit.STRETCH])
@pytest.mark.parametrize("size", SIZES)
def test_a_spot_of_the_original_is_found_again_where_it_was(fit, size):
    height, width = size
    x, y = width // 2 + 7, height // 2 + (5 if width > height else 150)
    fitted = fit_frame(marked(height, width, x, y), SPEC, fit)
    assert SPEC.same_view(fitted.frame.shape[:2])
    SPEC.check_frame(fitted.frame)
    rows, columns = np.nonzero(fitted.frame[:, :, 0] > 127)
    # Pixel centres: a spot that is centred on pixel x has its middle at x + 0.5.
    spot = np.array([[columns.mean() + 0.5, rows.mean() + 0.5]])
    in_model = spot * np.array([1640, 590]) / np.array(fitted.frame.shape[1::-1])
    back = fitted.to_original(LaneSet.from_lanes([in_model], (590, 1640)))
    assert back.frame_hw == (height, width)
    np.testing.assert_allclose(back.points[0, 0], [x + 0.5, y + 0.5], atol=0.51)


@pytest.mark.parametrize("size", SIZES)
def test_a_crop_keeps_pixels_as_they_are(size):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    fitted = fit_frame(frame, SPEC, Fit.CROP)
    (left, top), (height, width) = fitted.offset_xy, fitted.frame.shape[:2]
    np.testing.assert_array_equal(fitted.frame, frame[top : top + height, left : left + width])
    assert height == size[0] or width == size[1]
    lanes = LaneSet.from_lanes([[(0, 0), (1640, 590)]], (590, 1640))
    np.testing.assert_allclose(
        fitted.to_original(lanes).points[0],
        [[left, top], [left + width, top + height]],
        rtol=1e-6,
    )


@pytest.mark.parametrize("size", SIZES)
def test_stretching_maps_the_corners_to_the_corners(size):
    fitted = fit_frame(np.zeros((*size, 3), np.uint8), SPEC, Fit.STRETCH)
    lanes = LaneSet.from_lanes([[(0, 0), (1640, 590)]], (590, 1640))
    np.testing.assert_allclose(fitted.to_original(lanes).points[0], [[0, 0], size[::-1]], rtol=1e-6)


def test_a_tall_frame_loses_twice_as_much_sky_as_bonnet():
    fitted = fit_frame(np.zeros((890, 1640, 3), np.uint8), SPEC, Fit.CROP)
    assert fitted.offset_xy == (0, 200)
    assert fitted.frame.shape[:2] == (590, 1640)


def test_absent_points_stay_absent():
    fitted = fit_frame(np.zeros((720, 1280, 3), np.uint8), SPEC, Fit.CROP)
    lanes = LaneSet(np.full((1, 2, 2), np.nan), np.ones(1), (590, 1640))
    assert np.isnan(fitted.to_original(lanes).points).all()


def test_another_aspect_ratio_is_refused_by_default():
    with pytest.raises(TrtLaneError, match="aspect ratio"):
        fit_frame(np.zeros((720, 1280, 3), np.uint8), SPEC)


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize(
    "frame",
    [
        None,
        np.zeros((720, 1280), np.uint8),
        np.zeros((720, 1280, 4), np.uint8),
        np.zeros((720, 1280, 3), np.float32),
        np.zeros((720, 0, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused_however_it_should_fit(fit, frame):
    with pytest.raises(TrtLaneError, match="BGR"):
        fit_frame(frame, SPEC, fit)


@pytest.mark.parametrize("fit", [Fit.CROP, Fit.STRETCH])
@pytest.mark.parametrize("size", [(2, 2), (2, 2000), (2000, 2), (10, 10), (5, 9), (30, 50)])
def test_a_tiny_frame_is_fitted_or_refused_but_never_of_another_view(fit, size):
    try:
        fitted = fit_frame(np.zeros((*size, 3), np.uint8), SPEC, fit)
    except TrtLaneError as error:
        assert f"{size[1]}x{size[0]}, too small to {fit.value}" in str(error)
    else:
        SPEC.check_frame(fitted.frame)
