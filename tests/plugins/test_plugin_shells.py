"""The TensorRT shells, compiled against TensorRT's public headers and asked what a builder asks."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from cases import Case, all_cases, decoder_names
from plugin_builds import PLUGINS, Build, compiler, cuda_include, shell_driver
from running import difference, stacked
from test_preprocess import bytes_of, frame_of

from trt_lane.decoders import decoder_to_dict
from trt_lane.image import ImageSpec
from trt_lane.plugin_fields import read_plugin
from trt_lane.plugin_library import LaneOutputs

each_decoder = pytest.mark.parametrize("name", decoder_names())


@pytest.fixture(scope="session")
def driver() -> Path:
    include = os.environ.get("TENSORRT_INCLUDE_DIR")
    if not include:
        pytest.skip("TENSORRT_INCLUDE_DIR does not say where NvInfer.h is")
    if compiler() is None or cuda_include() is None:
        pytest.skip("no C++ compiler or no CUDA headers here: pip install '.[cuda]'")
    return shell_driver(Build(kernels=True), Path(include))


def described(case: Case, float_type: str = "float64", half: bool = False) -> str:
    """The case in the driver's words."""
    values = {**decoder_to_dict(case.decoder), **case.more}
    kind = "float16" if half else "float32"
    lines = [f"plugin {values.pop('name')}", f"type {kind}", "batch 1"]
    lines += [f"input {v.ndim} {' '.join(map(str, v.shape))}" for v in case.heads.values()]
    return "\n".join([*lines, *map(field_line, values, values.values(), repeat(float_type))]) + "\n"


def field_line(name: str, value: object, float_type: str = "float64") -> str:
    """One field in the driver's words."""
    if isinstance(value, str):
        return f"field {name} text 1 {str.__str__(value)}"  # of an Enum, its value
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    whole = all(isinstance(n, int) for n in numbers)
    text = " ".join(repr(float(n)) for n in numbers)
    if float_type == "text" and not whole:
        return f"field {name} text 1 {text}"
    return f"field {name} {'int32' if whole else float_type} {len(numbers)} {text}"


def talk(driver: Path, folder: Path, inputs: bytes, text: str) -> tuple[str, list[str], bytes]:
    """What the driver says when it refuses, the shapes of the outputs, and their bytes."""
    given, out = folder / "inputs", folder / "outputs"
    given.write_bytes(inputs)
    done = subprocess.run(
        [driver, given, out], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if done.stdout.startswith("refused"):
        return done.stdout, [], b""
    return "", done.stdout.splitlines(), out.read_bytes()


def play(driver: Path, case: Case, folder: Path, text: str) -> tuple[str, LaneOutputs | None]:
    """What the driver says of a decoder, and the outputs of its enqueue."""
    heads = b"".join(v.tobytes() for v in stacked([case]).values())
    said, shapes, data = talk(driver, folder, heads, text)
    if said:
        return said, None
    _, slots, width, _ = map(int, shapes[0].split())
    assert shapes[1:] == [f"1 {slots}", "1 2"]
    ends = np.cumsum([4 * slots * width * 2, 4 * slots, 8])
    assert len(data) == ends[-1]
    return "", LaneOutputs(
        np.frombuffer(data[: ends[0]], np.float32).reshape(1, slots, width, 2),
        np.frombuffer(data[ends[0] : ends[1]], np.float32).reshape(1, slots),
        np.frombuffer(data[ends[1] :], np.int32).reshape(1, 2),
    )


def named(name: str, case: str) -> Case:
    return next(c for c in all_cases() if c.plugin == name and c.name == case)


@each_decoder
@pytest.mark.parametrize("float_type", ["float64", "text"])
def test_shell_builds_saves_loads_and_gives_the_lanes_of_numpy(driver, tmp_path, name, float_type):
    case = with_sizes(named(name, "typical"))
    said, outputs = play(driver, case, tmp_path, described(case, float_type))
    assert said == ""
    assert difference(case, outputs) == ""


@each_decoder
def test_shell_takes_half_precision_and_reports_overflow(driver, tmp_path, name):
    case = with_sizes(named(name, "one_more_than_full")).in_half()
    _, outputs = play(driver, case, tmp_path, described(case, half=True))
    assert difference(case, outputs) == ""


@each_decoder
def test_refused_fields_are_told_with_what_was_expected(driver, tmp_path, name):
    case = with_sizes(named(name, "typical"))
    text = re.sub(r"field frame_hw int32 2 .*", "field frame_hw int32 2 0 5", described(case))
    said, _ = play(driver, case, tmp_path, text)
    assert f"refused: {name}: frame_hw is 0; expected 2 whole numbers from 1 to" in said


def with_sizes(case: Case) -> Case:
    """The case with the sizes of its heads among its fields, as `engines attach` writes them."""
    found = read_plugin(PLUGINS / case.plugin / f"{case.plugin}.yaml")
    sizes = found.head_sizes(case.head_shapes())
    return Case(**{**case.__dict__, "more": {**sizes, **case.more}})


# ---- pre-processing ---------------------------------------------------------------------------


def preprocess_words(spec: ImageSpec, batch: int, dtype: str, **change: object) -> str:
    """A camera's BGR frames in the driver's words."""
    height, width = spec.frame_hw
    fields = {
        "frame_hw": spec.frame_hw,
        "input_hw": spec.input_hw,
        "mean": spec.mean,
        "std": spec.std,
        "order": spec.order.value,
        "output": dtype,
        "scale": 0.02,
        **change,
    }
    lines = [
        "plugin preprocess",
        "type int32",
        f"batch {batch}",
        f"input 2 {height} {width * 3 // 4}",
    ]
    return "\n".join([*lines, *map(field_line, fields, fields.values())]) + "\n"


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_preprocess_shell_gives_the_numbers_of_the_spec(driver, tmp_path, dtype):
    spec = ImageSpec((20, 32), (9, 13))
    frames = [bytes_of("bgr", spec.frame_hw, seed=i) for i in range(17)]  # more than one launch
    expected = np.stack([spec.to_tensor(frame_of("bgr", f, spec.frame_hw)) for f in frames])
    if dtype == "int8":
        expected = np.clip(np.rint(expected / np.float32(0.02)), -128, 127)
    words = preprocess_words(spec, len(frames), dtype)
    said, shapes, data = talk(driver, tmp_path, np.stack(frames).tobytes(), words)
    assert (said, shapes) == ("", ["17 3 9 13"])
    found = np.frombuffer(data, dtype).reshape(expected.shape)
    assert np.array_equal(found, expected.astype(dtype))


def test_preprocess_shell_refuses_rows_that_are_no_whole_words(driver, tmp_path):
    spec = ImageSpec((20, 33), (9, 13))
    said, *_ = talk(driver, tmp_path, b"", preprocess_words(spec, 1, "float32"))
    assert "refused: preprocess: pitch is 99; expected a multiple of 4" in said
