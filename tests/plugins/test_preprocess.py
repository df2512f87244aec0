"""Compiled pre-processing against ImageSpec.to_tensor: the same pixels, all formats and types."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest
from running import GARBAGE, seed_of

from trt_lane.compiled_preprocess import CompiledPreprocess, InputMaker
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec

MEAN_STD = {"mean": (0.4, 0.45, 0.5), "std": (0.2, 0.25, 0.3)}
SPECS = {
    "shrunk": ImageSpec((60, 94), (23, 39), **MEAN_STD),
    "halved": ImageSpec((48, 64), (24, 32), **MEAN_STD),
    "enlarged": ImageSpec((20, 30), (41, 67), **MEAN_STD),
    "same_size": ImageSpec((24, 32), (24, 32), order="BGR"),
    "cut_before": ImageSpec((60, 94), (16, 40), crop_top=21, order="BGR"),
    "cut_after": ImageSpec((60, 94), (16, 40), resized_crop_top=9),
    "thin": ImageSpec((64, 4), (3, 9)),
    "antialiased": ImageSpec((60, 94), (23, 39), resampling="antialiased", **MEAN_STD),
    "antialiased_cut": ImageSpec((60, 94), (60, 40), crop_top=20, resampling="antialiased"),
    "antialiased_larger": ImageSpec((20, 30), (41, 67), resampling="antialiased"),
    "cubic": ImageSpec((60, 94), (23, 39), resampling="cubic", **MEAN_STD),
    "cubic_larger": ImageSpec((20, 30), (41, 67), resampling="cubic"),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
FORMATS = ("bgr", "rgb", "nv12", "yuyv")


def bytes_of(pixels: str, hw: tuple[int, int], seed: int = 0, pitch: int = 0) -> np.ndarray:
    """Random rows of bytes of a frame; what lies between the rows is not for reading."""
    height, width = hw
    rows = height * 3 // 2 if pixels == "nv12" else height
    used = width * {"bgr": 3, "rgb": 3, "nv12": 1, "yuyv": 2}[pixels]
    return np.random.default_rng(seed).integers(0, 256, (rows, pitch or used), np.uint8)


def frame_of(pixels: str, data: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """The BGR frame that OpenCV makes of the bytes."""
    height, width = hw
    if pixels == "nv12":
        return cv2.cvtColor(np.ascontiguousarray(data[:, :width]), cv2.COLOR_YUV2BGR_NV12)
    if pixels == "yuyv":
        packed = np.ascontiguousarray(data[:, : 2 * width]).reshape(height, width, 2)
        return cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_YUYV)
    frame = data[:, : 3 * width].reshape(height, width, 3)
    return frame[:, :, ::-1].copy() if pixels == "rgb" else frame


def by_kernels(preprocess: CompiledPreprocess, frames: list[np.ndarray], seed: int) -> np.ndarray:
    """The network input that the kernels make, run on the CPU."""
    out = np.empty((len(frames), *preprocess.input_shape), preprocess.dtype)
    out.view(np.uint8)[...] = GARBAGE
    workspace = np.full(preprocess.workspace_bytes // 4, 0x7BADBAD, np.int32)
    seed_of(preprocess.library)(seed)
    preprocess.launch([f.ctypes.data for f in frames], out.ctypes.data, workspace.ctypes.data, 0)
    return out


def check(spec: ImageSpec, found: np.ndarray, frame: np.ndarray) -> None:
    """Raise unless the float32 input is the spec's own."""
    expected = spec.to_tensor(frame)
    if spec.resampling.value == "cubic":
        # OpenCV rounds once in float32, and in another way from one processor to the next.
        levels = (found - expected) / spec.affine()[0][:, None, None]
        assert np.abs(levels).max() < 1.01
        assert (found == expected).mean() > 0.9
    else:
        assert np.array_equal(found, expected)


@each_spec
@pytest.mark.parametrize("pixels", FORMATS)
def test_host_gives_the_numbers_of_the_spec(host, spec, pixels):
    data = bytes_of(pixels, spec.frame_hw)
    found = CompiledPreprocess(host, spec, pixels=pixels)([data])[0]
    check(spec, found, frame_of(pixels, data, spec.frame_hw))


@each_spec
@pytest.mark.parametrize("pixels", FORMATS)
def test_kernels_give_the_numbers_of_the_spec(executed, spec, pixels):
    data = bytes_of(pixels, spec.frame_hw, seed=1)
    found = by_kernels(CompiledPreprocess(executed, spec, pixels=pixels), [data], seed=2)[0]
    check(spec, found, frame_of(pixels, data, spec.frame_hw))


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
@pytest.mark.parametrize("name", ["shrunk", "antialiased"])
def test_half_and_int8_inputs_are_rounded_as_numpy_does(host, executed, name, dtype):
    spec, scale = SPECS[name], 0.008
    data = bytes_of("bgr", spec.frame_hw)
    exact = spec.to_tensor(frame_of("bgr", data, spec.frame_hw))
    expected = (
        exact.astype(np.float16)
        if dtype is np.float16
        else np.clip(np.rint(exact / np.float32(scale)), -128, 127).astype(np.int8)
    )
    assert dtype is np.float16 or {-128, 127} & set(expected.ravel().tolist())
    on_host = CompiledPreprocess(host, spec, dtype=dtype, scale=scale)
    on_device = CompiledPreprocess(executed, spec, dtype=dtype, scale=scale)
    assert np.array_equal(on_host([data])[0], expected)
    assert np.array_equal(by_kernels(on_device, [data], 3)[0], expected)


@pytest.mark.parametrize("pixels", FORMATS)
def test_rows_may_be_padded(host, executed, pixels):
    spec = SPECS["shrunk"]
    data = bytes_of(pixels, spec.frame_hw, pitch=300)
    expected = spec.to_tensor(frame_of(pixels, data, spec.frame_hw))
    on_host = CompiledPreprocess(host, spec, pixels=pixels, pitch=300)
    on_device = CompiledPreprocess(executed, spec, pixels=pixels, pitch=300)
    assert np.array_equal(on_host([data])[0], expected)
    assert np.array_equal(by_kernels(on_device, [data], 4)[0], expected)


def test_nv12_may_have_its_second_plane_elsewhere(host, executed):
    spec = SPECS["shrunk"]
    data = bytes_of("nv12", spec.frame_hw)
    expected = spec.to_tensor(frame_of("nv12", data, spec.frame_hw))
    planes = [plane.copy() for plane in np.split(data, [spec.frame_hw[0]])]
    luma, chroma = ((ctypes.c_void_p * 1)(plane.ctypes.data) for plane in planes)
    on_host = CompiledPreprocess(host, spec, pixels="nv12")
    out = np.empty((1, *on_host.input_shape), np.float32)
    assert host.c.trt_lane_preprocess_run(on_host._handle, luma, chroma, 1, out.ctypes.data) == 0
    assert np.array_equal(out[0], expected)
    on_device = CompiledPreprocess(executed, spec, pixels="nv12")
    workspace = np.empty(on_device.workspace_bytes, np.uint8)
    out[:] = 0
    addresses = out.ctypes.data, workspace.ctypes.data, 0
    launch = executed.c.trt_lane_preprocess_launch
    assert launch(on_device._handle, luma, chroma, 1, *addresses) == 0
    assert np.array_equal(out[0], expected)


def test_cameras_of_a_batch_have_frames_of_their_own(host, executed):
    spec = ImageSpec((12, 16), (5, 9))
    frames = [bytes_of("bgr", spec.frame_hw, seed=i) for i in range(19)]  # more than a launch takes
    expected = np.stack([spec.to_tensor(frame_of("bgr", f, spec.frame_hw)) for f in frames])
    assert np.array_equal(CompiledPreprocess(host, spec)(frames), expected)
    assert np.array_equal(by_kernels(CompiledPreprocess(executed, spec), frames, 5), expected)


def test_another_resolution_of_the_same_view_is_cut_in_proportion(host):
    spec = ImageSpec((60, 94), (16, 40), crop_top=21)
    data = bytes_of("bgr", (120, 188))
    found = CompiledPreprocess(host, spec, (120, 188))([data.reshape(120, 188, 3)])[0]
    assert np.array_equal(found, spec.to_tensor(data.reshape(120, 188, 3)))


def test_a_full_sized_frame_has_the_pixels_of_the_spec(host):
    for spec in (
        ImageSpec((590, 1640), (128, 512), crop_top=190),
        ImageSpec((720, 1280), (360, 640)),
        ImageSpec((590, 1640), (288, 800), resampling="antialiased"),
    ):
        data = bytes_of("bgr", spec.frame_hw).reshape(*spec.frame_hw, 3)
        assert np.array_equal(CompiledPreprocess(host, spec)([data])[0], spec.to_tensor(data))


def test_the_portable_loops_give_the_same_as_the_vector_ones(host, portable):
    for name in ("shrunk", "halved", "cut_after", "antialiased", "cubic"):
        data = bytes_of("bgr", SPECS[name].frame_hw)
        found = [CompiledPreprocess(library, SPECS[name])([data]) for library in (host, portable)]
        assert np.array_equal(*found)


def test_the_caller_may_bring_the_memory(host):
    spec = SPECS["shrunk"]
    preprocess = CompiledPreprocess(host, spec)
    out = np.empty((1, *preprocess.input_shape), np.float32)
    assert preprocess([bytes_of("bgr", spec.frame_hw)], out) is out
    with pytest.raises(ValueError, match="out is float64"):
        preprocess([bytes_of("bgr", spec.frame_hw)], out.astype(np.float64))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="contiguous, aligned and writeable"):
        preprocess([bytes_of("bgr", spec.frame_hw)], out)


@pytest.mark.parametrize("name", ["shrunk", "antialiased", "cubic"])
def test_a_detectors_input_is_the_specs_whoever_makes_it(host, name):
    spec = SPECS[name]
    for library in (host, None):
        fill = InputMaker(spec, library)
        for hw in (spec.frame_hw, (120, 188), spec.frame_hw):
            whole = bytes_of("bgr", (hw[0], hw[1] + 7)).reshape(hw[0], hw[1] + 7, 3)
            for frame in (whole[:, 3:-4], whole[:, 3:-4].copy(), whole[::-1, 3:-4]):
                out = np.zeros((2, 3, *spec.input_hw), np.float32)
                fill(frame, out[1])
                assert np.array_equal(out[1], spec.to_tensor(frame))
                assert not out[0].any()


def test_a_detectors_frame_may_be_a_small_part_of_a_huge_image(host):
    spec = SPECS["shrunk"]
    mosaic = np.zeros((60, 50_000, 3), np.uint8)
    frame = mosaic[:, 40_000:40_094]
    frame[:] = bytes_of("bgr", spec.frame_hw).reshape(frame.shape)
    out = np.empty((3, *spec.input_hw), np.float32)
    InputMaker(spec, host)(frame, out)
    assert np.array_equal(out, spec.to_tensor(frame))


def test_a_detectors_input_refuses_what_is_no_frame(host):
    fill = InputMaker(SPECS["shrunk"], host)
    out = np.zeros((3, 23, 39), np.float32)
    with pytest.raises(TrtLaneError, match="expected 94x60"):
        fill(np.zeros((60, 200, 3), np.uint8), out)
    with pytest.raises(TrtLaneError, match="expected uint8"):
        fill(np.zeros((60, 94)), out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_hw": (60, 200)}, "frames are 200x60; expected the aspect ratio of 94x60"),
        ({"pitch": 100}, "pitch is 100; expected at least the 282 bytes of a row"),
        ({"dtype": np.uint8}, "output is 'uint8'; expected one of float32 float16 int8"),
        ({"frame_hw": (59, 93), "pixels": "nv12"}, "expected even sizes for nv12"),
        ({"scale": 0.0}, "scale is 0; expected a number from 1e-12"),
    ],
)
def test_impossible_numbers_are_refused(host, change, message):
    with pytest.raises(TrtLaneError) as error:
        CompiledPreprocess(host, SPECS["shrunk"], **change)
    assert message in str(error.value)


def test_a_wrong_frame_is_refused(host):
    preprocess = CompiledPreprocess(host, SPECS["shrunk"])
    with pytest.raises(ValueError, match="expected uint8, 60 rows of 282 bytes"):
        preprocess([np.zeros((60, 93, 3), np.uint8)])


def test_host_library_launches_nothing(host):
    preprocess = CompiledPreprocess(host, SPECS["shrunk"])
    with pytest.raises(TrtLaneError, match="built for a host; run: make plugins"):
        preprocess.launch([0], 0, 0, 0)


def test_a_batch_too_small_is_refused(executed):
    preprocess = CompiledPreprocess(executed, SPECS["shrunk"])
    with pytest.raises(TrtLaneError, match="batch is not positive"):
        preprocess.launch([], 0, 0, 0)
