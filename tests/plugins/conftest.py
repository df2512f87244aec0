"""The libraries that the tests of the plugins load."""

from __future__ import annotations

import pytest
from plugin_builds import Build, compiler, library

from trt_lane.plugin_library import PluginLibrary


def built(build: Build) -> PluginLibrary:
    """A library, or a skip where no compiler is."""
    if compiler() is None:
        pytest.skip("no C++ compiler here: neither CXX nor g++")
    return PluginLibrary(library(build))


@pytest.fixture(scope="session")
def host() -> PluginLibrary:
    """The host's decoders, as `make plugins-host` builds them."""
    return built(Build(kernels=False))


@pytest.fixture(scope="session")
def portable() -> PluginLibrary:
    """The host's decoders without instructions of one processor family."""
    return built(Build(kernels=False, portable=True))


@pytest.fixture(scope="session")
def executed() -> PluginLibrary:
    """The kernels, run on the CPU."""
    return built(Build(kernels=True))
