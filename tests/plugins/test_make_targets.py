"""`make plugins` and `make plugins-host`: what they build, leave out and refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import resources
from cases import all_cases
from plugin_builds import PLUGINS, ROOT
from running import compiled, on_host

from trt_lane.errors import TrtLaneError
from trt_lane.plugin_library import HOST_NAME, PLUGINS_NAME, PluginLibrary

CASE = next(c for c in all_cases() if c.name == "typical")


def make(*words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run make without the project's own environment."""
    words = ("VENV=/nonexistent", f"PYTHON={sys.executable}", *words)
    return subprocess.run(
        ["make", "-C", ROOT, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )


def test_without_nvcc_make_plugins_says_what_to_install():
    if resources.nvcc() != shutil.which("nvcc"):
        pytest.skip("nvcc is among Python's packages here")
    done = make("plugins", NVCC="no-such-nvcc")
    assert done.returncode != 0
    assert "no nvcc here; run: " in done.stderr
    assert "pip install '.[cuda]'" in done.stderr


@pytest.mark.slow
def test_host_library_needs_a_compiler_only(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here: g++")
    done = make("plugins-host", f"BUILD={tmp_path}")
    assert done.returncode == 0, done.stderr
    library = PluginLibrary(tmp_path / "plugins" / HOST_NAME)
    assert set(library.decoders) == {p.parent.name for p in PLUGINS.glob("*/*_plugin.cpp")} - {
        "preprocess"
    }
    again = make("plugins-host", f"BUILD={tmp_path}")
    assert "Nothing to be done" in again.stdout


@pytest.mark.slow
def test_cuda_library_is_built_without_a_gpu_and_names_what_it_left_out(tmp_path):
    if resources.nvcc() is None or shutil.which("cmake") is None:
        pytest.skip("no nvcc or no cmake here")
    done = make("plugins", f"BUILD={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "left out: the TensorRT plugins; say -DTENSORRT_INCLUDE_DIR=" in done.stdout
    library = PluginLibrary(tmp_path / "plugins" / PLUGINS_NAME)
    assert library.has_kernels
    assert np.array_equal(on_host(library, [CASE]).scores[0, : len(CASE.expected())] > 0,
                          [True] * len(CASE.expected()))  # fmt: skip
    if not Path("/dev/nvidiactl").exists():
        decoder = compiled(library, CASE)
        with pytest.raises(TrtLaneError, match="CUDA error"):
            decoder.launch([0] * len(decoder.head_shapes), False, 1, (0, 0, 0), 0, 0)


@pytest.mark.slow
def test_a_wrong_tensorrt_folder_is_told(tmp_path):
    if resources.nvcc() is None or shutil.which("cmake") is None:
        pytest.skip("no nvcc or no cmake here")
    done = make("plugins", f"BUILD={tmp_path}", f"TENSORRT_INCLUDE_DIR={tmp_path}")
    assert done.returncode != 0
    assert "where no NvInferRuntime.h" in " ".join(done.stderr.split())
