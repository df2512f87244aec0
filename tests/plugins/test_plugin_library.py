"""The C interface and its Python side: what they refuse, and the arithmetic that all share."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cases import all_cases
from plugin_builds import EXACT, FLAGS, PLUGINS, ROOT, compiler, run
from running import compiled, on_host, same
from tiny_artifact import DECODER, make_artifact

from trt_lane import plugin_library
from trt_lane.artifact import HeadShape
from trt_lane.decoders import decoder_to_dict
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.plugin_library import HOST_NAME, PLUGINS_NAME, VARIABLE, PluginLibrary

CASE = next(c for c in all_cases() if c.name == "typical" and c.plugin == "row_anchor")
NUMBERS = decoder_to_dict(CASE.decoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 0}, "lanes is 0; expected a whole number from 1 to 64"),
        ({"lanes": 2.5}, "lanes is 2.5; expected a whole number"),
        ({"cell_px": float("nan")}, "cell_px is nan; expected a number from"),
        ({"rows_px": ()}, "rows_px is 0 numbers; expected 1 to 256 numbers"),
        ({"rows_px": (1.0,) * 257}, "rows_px is 257 numbers"),
        ({"cells": "many"}, "cells is 'many'; expected"),
        ({"width": 3}, "no field 'width'; fields: frame_hw, rows_px"),
        ({"name": "row_ancor"}, "no plugin 'row_ancor'; plugins: "),
    ],
)
def test_impossible_numbers_are_refused_with_what_was_expected(host, change, message):
    with pytest.raises(TrtLaneError) as error:
        host.make({**NUMBERS, **change})
    assert message in str(error.value)


def test_a_missing_number_is_refused(host):
    with pytest.raises(TrtLaneError, match="cells is missing; expected a whole number"):
        host.make({k: v for k, v in NUMBERS.items() if k != "cells"})


def test_numbers_may_come_as_text_without_losing_a_digit(host):
    text = {k: v if k == "name" else " ".join(map(repr, np.atleast_1d(v).tolist()))
            for k, v in NUMBERS.items()}  # fmt: skip
    expected = on_host(host, [CASE])
    heads = {k: v[None] for k, v in CASE.heads.items()}
    assert same(host.make(text, frame_hw=(590, 1640)).decode(heads), expected)


def test_numbers_as_text_are_read_alike_in_a_program_that_speaks_german(host, tmp_path):
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], check=False
    )
    if not made or made.returncode:
        pytest.skip("no German locale can be made here: localedef and its sources")
    code = (
        "import locale, sys; locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\n"
        "assert locale.localeconv()['decimal_point'] == ','\n"
        "from trt_lane.plugin_library import PluginLibrary\n"
        "PluginLibrary(sys.argv[1]).make(\n"
        "    {'name': 'row_anchor', 'frame_hw': '9 9', 'rows_px': '5.5 3.25', 'cells': '4',\n"
        "     'lanes': '1', 'cell_px': '2.5e-1'})\n"
    )
    run([sys.executable, "-c", code, host.path], cwd=ROOT,
        env={**os.environ, "LOCPATH": str(tmp_path), "PYTHONPATH": str(ROOT)})  # fmt: skip


@pytest.mark.parametrize("text", ["0,5", "0.5.5", "1-1", "0x10", "nan", "inf", "1e999", "."])
def test_text_that_is_no_number_is_refused(host, text):
    with pytest.raises(TrtLaneError, match=f"cell_px is '{re.escape(text)}'; expected a number"):
        host.make({**NUMBERS, "cell_px": text})


def test_help_names_every_field(host):
    text = host.help("row_anchor")
    assert "cells: a whole number from 1 to 65536. grid cells across the frame" in text
    assert "default 0.5" in text
    with pytest.raises(TrtLaneError, match="no plugin"):
        host.help("nothing")


def test_host_library_has_no_kernels(host, executed):
    assert not host.has_kernels
    assert executed.has_kernels
    with pytest.raises(TrtLaneError, match="built for a host; run: make plugins"):
        compiled(host, CASE).launch([0], False, 1, (0, 0, 0), 0, 0)


def test_a_launch_that_fails_is_told(executed):
    decoder = compiled(executed, CASE)
    with pytest.raises(TrtLaneError, match="batch is not positive"):
        decoder.launch([0], False, 0, (0, 0, 0), 0, 0)
    with pytest.raises(TrtLaneError, match="CUDA error 9: invalid configuration"):
        decoder.launch([0], False, 70_000, (0, 0, 0), 0, 0)
    for heads in ([], [0, 0]):
        with pytest.raises(ValueError, match=f"{len(heads)} heads; expected logits"):
            decoder.launch(heads, False, 1, (0, 0, 0), 0, 0)


def test_threads_share_a_decoder(host):
    decoder = compiled(host, CASE)
    heads = {k: v[None] for k, v in CASE.heads.items()}
    expected = decoder.decode(heads)
    with ThreadPoolExecutor(4) as pool:
        assert all(same(o, expected) for o in pool.map(lambda _: decoder.decode(heads), range(32)))


def test_no_lanes_is_an_empty_set(host):
    case = next(c for c in all_cases() if c.name == "empty" and c.plugin == "row_anchor")
    lanes = compiled(host, case)(**case.heads)
    assert len(lanes) == 0
    assert lanes.frame_hw == case.decoder.frame_hw


def test_libraries_are_found_by_folder_or_variable(host, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(plugin_library, "FOLDER", tmp_path)
    assert plugin_library.find_host_library() is None
    with pytest.raises(TrtLaneError, match=rf"no {PLUGINS_NAME} in .*; run: make plugins"):
        plugin_library.load_plugins()
    shutil.copy(host.path, tmp_path / HOST_NAME)
    assert "row_anchor" in plugin_library.find_host_library().decoders
    with pytest.raises(TrtLaneError, match="built for a CPU; run: make plugins"):
        plugin_library.load_plugins(tmp_path / HOST_NAME)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert plugin_library.find_library(HOST_NAME) == tmp_path / HOST_NAME
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(TrtLaneError, match=r"where no libtrt_lane_host\.so lies"):
        plugin_library.find_host_library()


def test_numbers_beyond_a_plugins_limits_are_decoded_by_numpy(host, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(host.path))
    artifact = make_artifact(tmp_path)
    with LaneDetector.load(artifact.folder, threads=1) as detector:
        assert detector.decodes_compiled
    logits = np.zeros((*DECODER.head_shape[:2], 65), np.float32)  # the plugin's limit is 64 lanes
    logits[2] = 20
    decoder, head = {**artifact.decoder, "lanes": 65}, HeadShape("logits", logits.shape)
    wide = replace(artifact, decoder=decoder, heads=(head,))
    backend = SimpleNamespace(infer=lambda image: {"logits": logits}, close=lambda: None)
    with LaneDetector(wide, backend) as detector:
        assert not detector.decodes_compiled
        assert len(detector.detect(np.zeros((590, 1640, 3), np.uint8))) == 65


def test_a_foreign_library_is_refused(tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    with pytest.raises(TrtLaneError, match=r"cannot load .*; run: make plugins"):
        PluginLibrary(broken)


def test_heads_may_be_read_only(host):
    heads = {k: v[None].copy() for k, v in CASE.heads.items()}
    decoder = compiled(host, CASE)
    expected = decoder.decode(heads)
    for head in heads.values():
        head.flags.writeable = False
    assert same(decoder.decode(heads), expected)


def test_heads_may_begin_at_any_byte(host):
    raw = {k: np.frombuffer(b"\0" + v.tobytes(), v.dtype, offset=1) for k, v in CASE.heads.items()}
    heads = {k: v.reshape(1, *CASE.heads[k].shape) for k, v in raw.items()}
    decoder = compiled(host, CASE)
    assert not any(head.flags.aligned for head in heads.values())
    assert all(head.flags.aligned for head in decoder.checked(heads)[0])
    assert same(decoder.decode(heads), on_host(host, [CASE]))


def test_a_decoder_of_other_sizes_refuses_the_heads(host):
    case = replace(CASE, decoder=replace(CASE.decoder, lanes=3))
    with pytest.raises(ValueError, match=r"expected \(201, 17, 3\)"):
        compiled(host, case)(**CASE.heads)


# ---- arithmetic of lane_hd.h ------------------------------------------------------------------

SOURCE = """
#include "common/lane_hd.h"
#include "common/soundness.h"
using namespace trt_lane;
#pragma GCC visibility push(default)
extern "C" {
void exps(float const* x, float* y, int n) { for (int i = 0; i < n; ++i) y[i] = exp32(x[i]); }
void floats(Half const* x, float* y, int n) { for (int i = 0; i < n; ++i) y[i] = to_float(x[i]); }
bool sound_floats(float const* x, int n) { return all_finite(x, n); }
bool sound_halves(Half const* x, int n) { return all_finite(x, n); }
void halves(float const* x, Half* y, int n) { for (int i = 0; i < n; ++i) y[i] = to_half(x[i]); }
}
"""


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory):
    if compiler() is None:
        pytest.skip("no C++ compiler here: neither CXX nor g++")
    folder = tmp_path_factory.mktemp("arithmetic")
    (folder / "code.cpp").write_text(SOURCE)
    out = folder / "code.so"
    run([compiler(), *FLAGS, *EXACT, "-O3", "-shared", "-I", PLUGINS, folder / "code.cpp",
         "-o", out])  # fmt: skip
    return ctypes.CDLL(str(out))


def applied(function, values: np.ndarray, kind: type) -> np.ndarray:
    out = np.empty(len(values), kind)
    function(*(ctypes.c_void_p(a.ctypes.data) for a in (values, out)), len(values))
    return out


def test_exp_is_within_one_unit_in_the_last_place(arithmetic):
    x = np.concatenate([np.linspace(-104, 89, 400_001), np.linspace(-1, 1, 200_001)])
    x = x.astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    with np.errstate(over="ignore"):
        units = np.spacing(exact.astype(np.float32)).astype(np.float64)
    inside = np.isfinite(units)
    found = applied(arithmetic.exps, x, np.float32)
    assert np.abs((found - exact) / units)[inside].max() < 1
    assert np.isinf(found[~inside]).all()


def test_exp_of_what_is_no_number(arithmetic):
    x = np.float32([0, -np.inf, np.inf, np.nan, 3e38, -3e38, -0.0])
    assert applied(arithmetic.exps, x, np.float32).tolist()[:3] == [1, 0, np.inf]
    assert np.isnan(applied(arithmetic.exps, x, np.float32)[3])
    assert applied(arithmetic.exps, x, np.float32).tolist()[4:] == [np.inf, 0, 1]


def test_every_half_becomes_the_float_that_numpy_gives(arithmetic):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    assert np.array_equal(
        applied(arithmetic.floats, halves, np.float32), halves.astype(np.float32), equal_nan=True
    )


@pytest.mark.parametrize(("kind", "name"), [(np.float32, "floats"), (np.float16, "halves")])
def test_one_number_that_is_none_is_found_wherever_it_is(arithmetic, kind, name):
    limits = np.finfo(kind)
    sound = np.resize([limits.max, limits.min, -0.0, limits.smallest_subnormal], 75).astype(kind)

    def found(values: np.ndarray) -> bool:
        is_sound = getattr(arithmetic, f"sound_{name}")
        is_sound.restype = ctypes.c_bool
        return not is_sound(ctypes.c_void_p(values.ctypes.data), len(values))

    for size in (1, 31, 32, 64, 75):
        assert not found(sound[:size])
        for at in range(size):
            for value in (np.nan, np.inf, -np.inf):
                broken = sound[:size].copy()
                broken[at] = value
                assert found(broken)


def test_floats_are_rounded_to_halves_as_numpy_does(arithmetic):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 300_000, dtype=np.uint64).astype(np.uint32)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (halves[:-1] + halves[1:]) / 2  # ties go to the even one
    limit = np.float32([65519, 65520])
    values = np.concatenate([bits.view(np.float32), halves, between, -between, limit])
    found = applied(arithmetic.halves, values, np.float16)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    sound = ~np.isnan(expected)
    assert np.array_equal(found[sound].view(np.uint16), expected[sound].view(np.uint16))
