"""The TensorRT shells, compiled against TensorRT's public headers and asked what a builder asks."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cases import Case, all_cases, decoder_names
from plugin_builds import PLUGINS, Build, compiler, cuda_include, shell_driver
from running import difference, stacked

from trt_lane.decoders import decoder_to_dict
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
    lines = [f"plugin {values.pop('name')}", f"half {int(half)}", "batch 1"]
    lines += [f"head {v.ndim} {' '.join(map(str, v.shape))}" for v in case.heads.values()]
    for name, value in values.items():
        if isinstance(value, str):
            lines.append(f"field {name} text 1 {value}")
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        whole = all(isinstance(n, int) for n in numbers)
        kind = "int32" if whole else float_type
        text = " ".join(repr(float(n)) for n in numbers)
        if float_type == "text" and not whole:
            lines.append(f"field {name} text 1 {text}")
        else:
            lines.append(f"field {name} {kind} {len(numbers)} {text}")
    return "\n".join(lines) + "\n"


def play(driver: Path, case: Case, folder: Path, text: str) -> tuple[str, LaneOutputs | None]:
    """What the driver says, and the outputs of its enqueue."""
    heads, out = folder / "heads", folder / "outputs"
    heads.write_bytes(b"".join(v.tobytes() for v in stacked([case]).values()))
    done = subprocess.run(
        [driver, heads, out], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if done.stdout.startswith("refused"):
        return done.stdout, None
    slots, width = map(int, done.stdout.split())
    data = out.read_bytes()
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
    from trt_lane.plugin_fields import read_plugin

    found = read_plugin(PLUGINS / case.plugin / f"{case.plugin}.yaml")
    sizes = {
        field.name: tuple(case.head_shapes()[head][int(axis)] for axis in axes)
        for field in found.fields.values()
        if field.sizes_of
        for head, *axes in [field.sizes_of.split()]
    }
    return Case(**{**case.__dict__, "more": {**sizes, **case.more}})
