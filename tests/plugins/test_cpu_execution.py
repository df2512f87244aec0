"""The header that runs kernels on a CPU: what it must find, it finds."""

from __future__ import annotations

import ctypes
import os
import subprocess

import numpy as np
import pytest
from plugin_builds import EXECUTION, HERE, PLUGINS, compiler, run

KERNELS = HERE / "execution_kernels.cu"
OK, FAILED = 0, 719


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    if compiler() is None:
        pytest.skip("no C++ compiler here: neither CXX nor g++")
    out = tmp_path_factory.mktemp("execution") / "kernels.so"
    run([compiler(), "-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror",
         *EXECUTION, "-I", PLUGINS, "-x", "c++", KERNELS, "-o", out])  # fmt: skip
    library = ctypes.CDLL(str(out))
    library.message.restype = ctypes.c_char_p
    return library


def results(kernels, name: str, seeds: range = range(8)) -> list[tuple[int, tuple]]:
    """Status and output of a kernel for each seed."""
    found = []
    for seed in seeds:
        kernels.lane_execution_seed(seed)
        out = np.zeros(256, np.int32)
        status = getattr(kernels, f"run_{name}")(out.ctypes.data_as(ctypes.c_void_p))
        found.append((status, tuple(out.tolist())))
    return found


def test_threads_and_blocks_have_their_indices(kernels):
    expected = tuple(100 * b + t for b in range(4) for t in range(64))
    assert results(kernels, "indices") == [(OK, expected)] * 8


def test_barriers_order_shared_memory(kernels):
    assert results(kernels, "reversed") == [(OK, tuple(range(255, -1, -1)))] * 8


def test_a_missing_barrier_changes_the_result_with_the_order_of_threads(kernels):
    found = results(kernels, "reversed_without_barrier")
    assert len(set(found)) > 1


def test_warp_functions_exchange_values(kernels):
    lanes = np.arange(32)
    expected = np.concatenate(
        [
            (lanes + 1) % 32,  # shuffle
            lanes ^ 5,
            np.where(lanes + 3 < 32, lanes + 3, lanes),
            np.where(lanes >= 3, lanes - 3, lanes),
            np.full(32, 0x15555555 & 0xFFFFFFFF),  # ballot of the even lanes but the last two
            np.full(32, 1),
            np.full(32, 0),
            np.full(32, 32 * 31 // 2),
        ]
    )
    assert results(kernels, "warp") == [(OK, tuple(expected.tolist()))] * 8


def test_a_barrier_in_a_branch_is_an_error(kernels):
    assert {status for status, _ in results(kernels, "barrier_in_branch")} == {FAILED}
    assert b"not all threads reach" in kernels.message()


def test_a_thread_that_ends_before_a_barrier_is_an_error(kernels):
    assert {status for status, _ in results(kernels, "ended_before_barrier")} == {FAILED}
    assert b"ended" in kernels.message()


def test_a_shuffle_from_outside_the_mask_is_an_error(kernels):
    assert {status for status, _ in results(kernels, "shuffle_from_outside")} == {FAILED}
    assert b"outside its mask" in kernels.message()


def test_a_warp_function_without_all_its_lanes_is_an_error(kernels):
    assert {status for status, _ in results(kernels, "lane_missing")} == {FAILED}


def test_shared_memory_starts_as_garbage(kernels):
    found = results(kernels, "unwritten_shared")
    assert len({out for _, out in found}) == 8


def test_too_large_a_block_is_refused(kernels):
    assert results(kernels, "too_large", range(1))[0][0] == 9


def test_fibers_run_under_the_address_sanitizer(tmp_path):
    if compiler() is None:
        pytest.skip("no C++ compiler here: neither CXX nor g++")
    main = tmp_path / "main.cpp"
    main.write_text(
        'extern "C" int run_reversed(int*); extern "C" int run_beyond_shared(int*);\n'
        "int main(int count, char**) { static int out[256];\n"
        "  return count > 1 ? run_beyond_shared(out) : run_reversed(out); }\n"
    )
    program = tmp_path / "program"
    run([compiler(), "-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", *EXECUTION,
         "-I", PLUGINS, "-x", "c++", KERNELS, main, "-o", program])  # fmt: skip
    environment = {**os.environ, "ASAN_OPTIONS": "abort_on_error=0"}
    run([program], env=environment)
    beyond = subprocess.run([program, "beyond"], capture_output=True, text=True, env=environment)
    assert "heap-buffer-overflow" in beyond.stderr
