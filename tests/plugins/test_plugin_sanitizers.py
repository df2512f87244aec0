"""Decoders and kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cases import all_cases
from plugin_builds import HERE, ROOT, Build, compiler, library, run


@pytest.fixture(scope="module")
def sanitizer() -> dict[str, str]:
    """The environment in which Python loads a sanitized library."""
    if compiler() is None:
        pytest.skip("no C++ compiler here: neither CXX nor g++")
    runtime = run([compiler(), "-print-file-name=libasan.so"]).stdout.strip()
    if not os.path.isabs(runtime):
        pytest.skip("the compiler has no AddressSanitizer here: libasan.so")
    return {
        **os.environ,
        "LD_PRELOAD": runtime,
        # Python itself keeps memory until it ends.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
    }


def test_every_case_runs_without_a_finding(sanitizer):
    libraries = [library(Build(kernels=k, sanitized=True)) for k in (False, True)]
    done = subprocess.run(
        [sys.executable, HERE / "run_cases.py", *libraries],
        capture_output=True,
        text=True,
        check=False,
        env=sanitizer,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout == f"{len(all_cases())} cases\n"
    assert "runtime error" not in done.stderr


def test_a_read_beyond_a_head_is_found(sanitizer):
    path = library(Build(kernels=False, sanitized=True))
    code = (
        "import sys; from cases import all_cases; from running import compiled\n"
        "from trt_lane.plugin_library import *\n"
        "case = all_cases()[0]; decoder = compiled(PluginLibrary(sys.argv[1]), case)\n"
        "arrays, *_ = decoder.checked({k: v[None] for k, v in case.heads.items()})\n"
        "short = [a.ravel()[:-1].copy() for a in arrays]\n"
        "decoder.checked = lambda heads: (short, 1, False)\n"
        "decoder.decode({})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False,
        env=sanitizer,
    )  # fmt: skip
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
