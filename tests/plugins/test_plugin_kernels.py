"""The kernels, compiled for every GPU that is supported."""

from __future__ import annotations

from pathlib import Path

import pytest
import resources
from cases import decoder_names
from plugin_builds import PLUGINS, make_specs, sources

SOURCES = sources(".cu")


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = resources.nvcc()
    if found is None:
        pytest.skip("no nvcc here: neither on the PATH nor by pip install '.[cuda]'")
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_kernels_take_what_their_table_says_and_spill_nothing(nvcc, source):
    text = resources.compile_kernels(nvcc, source, make_specs().parent)
    found = resources.table(resources.nvcc_version(nvcc), resources.resources(text))
    committed = source.with_name(resources.TABLE).read_text(encoding="utf-8")
    assert committed.split()[-1]  # there is a table even where it cannot be compared
    if committed.splitlines()[1].split()[1] != resources.nvcc_version(nvcc):
        pytest.skip(f"compiled; the table is of another nvcc than {resources.nvcc_version(nvcc)}")
    assert found == committed, "run: make plugins-resources"


def test_every_decoder_has_its_three_files_and_its_fields():
    for name in decoder_names():
        files = {path.name for path in (PLUGINS / name).iterdir()}
        assert files >= {f"{name}{end}" for end in (".h", ".cu", "_plugin.cpp", ".yaml")}
        assert resources.TABLE in files


def test_a_spill_is_an_error(nvcc, tmp_path):
    source = tmp_path / "spilling.cu"
    source.write_text(
        "__global__ void spilling_kernel(float* at, int i) {\n"
        "    float many[64] = {};\n"
        "    for (int k = 0; k < 64; ++k) many[k * i % 64] = at[k];\n"
        "    at[0] = many[i];\n"
        "}\n"
    )
    with pytest.raises(RuntimeError, match="local memory"):
        resources.compile_kernels(nvcc, source, Path(tmp_path))


def test_tables_are_read_from_what_ptxas_says():
    text = (
        "ptxas info    : Compiling entry function '_Z10one_kernelIfEvPT_' for 'sm_87'\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 768 bytes smem, 8 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function '_Z10one_kernelIfEvPT_' for 'sm_90'\n"
        "ptxas info    : Used 12 registers, 8 bytes cmem[0]\n"
    )
    assert resources.resources(text) == {"one_kernel<float>": {87: (40, 768), 90: (12, 0)}}
