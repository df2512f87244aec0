"""The contract of CudaDriver and a whole engine, on a real GPU: `make gpu-check`."""

import ctypes
import gc

import numpy as np
import pytest
from tiny_artifact import make_artifact, row_anchor_pair

from trt_lane.backends.cuda_driver import CudaDriver
from trt_lane.backends.device_buffer import DeviceBuffer
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError

pytestmark = pytest.mark.gpu


@pytest.fixture
def driver():
    try:
        found = CudaDriver()
    except TrtLaneError as error:
        pytest.skip(str(error))
    found.retain()
    yield found
    found.release()


def test_facts_of_the_device_are_plausible(driver):
    assert 50 <= driver.compute_capability < 200 and float(driver.version) >= 11
    with driver.current():
        assert driver.free_bytes() > 1 << 20


@pytest.mark.parametrize("shared", [False, True])
def test_what_goes_up_comes_down_enqueued_and_as_a_graph(driver, shared):
    with driver.current():
        stream = driver.create_stream()
        up = DeviceBuffer(driver, (1000,), np.dtype(np.float32), shared=False)
        down = driver.allocate_host(up.nbytes)
        view = np.frombuffer((ctypes.c_char * up.nbytes).from_address(down), np.float32)

        def enqueue():
            up.upload(stream)
            driver.copy_to_host(down, up.device, up.nbytes, stream)

        up.host[:] = np.arange(1000)
        if shared:
            driver.begin_capture(stream)
            enqueue()
            graph = driver.end_capture(stream)
            driver.launch(graph, stream)
            driver.synchronize(stream)
            driver.destroy_graph(graph)
        else:
            enqueue()
            driver.synchronize(stream)
        np.testing.assert_array_equal(view, np.arange(1000))
        del view
        driver.free_host(down)
        up.free()
        driver.destroy_stream(stream)


def test_events_measure_time_that_passes(driver):
    with driver.current():
        stream = driver.create_stream()
        buffer = DeviceBuffer(driver, (1 << 22,), np.dtype(np.float32), shared=False)
        start, end = driver.create_event(), driver.create_event()
        driver.record(start, stream)
        buffer.upload(stream)
        driver.record(end, stream)
        driver.synchronize(stream)
        assert 0 < driver.elapsed_ms(start, end) < 1000
        for event in (start, end):
            driver.destroy_event(event)
        buffer.free()
        driver.destroy_stream(stream)


def test_an_engine_built_here_finds_the_lanes_of_the_cpu_and_gives_all_memory_back(
    driver, tmp_path
):
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    import onnx

    from engines.build import build
    from engines.card import read_card
    from engines.package import package
    from engines.target import load_target

    found = row_anchor_pair(dtype=np.float16)
    path, target = tmp_path / "model.onnx", load_target("local")
    onnx.save(found.qdq, path)
    artifact = package(build(path, target, tmp_path), path, read_card(found.qdq), target)
    cpu = make_artifact(tmp_path / "cpu")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (295, 820, 3), np.uint8) for _ in range(4)]
    with driver.current():
        before = driver.free_bytes()
    with (
        LaneDetector.load(artifact.folder) as detector,
        LaneDetector.load(cpu.folder, threads=1) as expected,
    ):
        for picture in pictures:
            heads, other = detector.heads(picture)["logits"], expected.heads(picture)["logits"]
            error = np.sqrt(np.mean((heads - other) ** 2))
            assert error < 0.3 * np.sqrt(np.mean(other**2))
            again = detector.heads(picture)["logits"]  # by the graph
            np.testing.assert_array_equal(heads, again)
    gc.collect()
    with driver.current():
        assert before - driver.free_bytes() < 64 << 20
