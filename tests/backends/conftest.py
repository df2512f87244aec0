"""The recording driver, and the tiny artifact in two forms."""

import gc

import pytest
from gpu_setup import gpu
from recording import Recording
from tiny_artifact import make_artifact


@pytest.fixture(scope="module")
def cpu(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="session")
def the_recording():
    return Recording()


@pytest.fixture(params=[False, True], ids=["two memories", "one memory"])
def recording(request, the_recording):
    """A fresh device; afterwards nothing may be left of the test, and no rule broken."""
    the_recording.reset(integrated=request.param)
    yield the_recording
    gc.collect()
    assert the_recording.errors == []
    assert the_recording.violations == []
    assert the_recording.live == []


@pytest.fixture
def artifact(cpu, tmp_path):
    return gpu(cpu, tmp_path)
