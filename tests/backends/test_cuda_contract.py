"""The recording driver sees what breaks the contract of CudaDriver."""

from contextlib import suppress
from pathlib import Path

import pytest

from trt_lane.backends.cuda_driver import DeviceError


def misuse(recording):
    """Ways to break the contract, and the words for each."""
    driver = recording.driver()

    def early_free():
        memory = driver.allocate(64)
        host, stream = driver.allocate_host(64), driver.create_stream()
        driver.copy_to_device(memory, host, 64, stream)
        driver.free(memory)

    def twice():
        stream = driver.create_stream()
        driver.destroy_stream(stream)
        driver.destroy_stream(stream)

    def wait_in_capture():
        stream = driver.create_stream()
        driver.begin_capture(stream)
        driver.synchronize(stream)

    def gone():
        memory, stream = driver.allocate(64), driver.create_stream()
        host = driver.allocate_host(64)
        driver.free(memory)
        driver.copy_to_device(memory, host, 64, stream)
        driver.synchronize(stream)

    return {
        "may still use": early_free, "destroyed twice": twice, "being captured": wait_in_capture,
        "memory that is gone": gone, "0 bytes": lambda: driver.allocate(0),
    }  # fmt: skip


@pytest.mark.parametrize("words", ["may still use", "destroyed twice", "being captured",
                                   "memory that is gone", "0 bytes"])  # fmt: skip
def test_the_recording_sees_what_breaks_the_contract(the_recording, words):
    the_recording.reset()
    driver = the_recording.driver()
    driver.retain()
    with driver.current(), suppress(DeviceError):
        misuse(the_recording)[words]()
    assert any(words in v for v in the_recording.violations), the_recording.violations


def test_the_recording_sees_a_missing_context_and_what_is_not_given_back(the_recording):
    the_recording.reset()
    driver = the_recording.driver()
    with pytest.raises(DeviceError):
        driver.allocate(64)
    assert "without a current context" in the_recording.violations[0]
    driver.retain()
    with driver.current():
        driver.allocate(64)
    assert the_recording.live == ["contexts 1", "device memory 1"]
    assert Path(the_recording.path).is_file()
