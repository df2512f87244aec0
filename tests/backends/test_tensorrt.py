"""The GPU backend against a driver that records its calls and a TensorRT that runs ONNX graphs."""

import gc
import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from recording import Recording, tensorrt
from tiny_artifact import make_artifact

from trt_lane.artifact import SIDECAR, EngineArtifact
from trt_lane.backends import open_backend
from trt_lane.backends.cuda_driver import CudaDriver, DeviceError
from trt_lane.backends.device_stages import PluginStages
from trt_lane.backends.tensorrt import TensorRtBackend
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.plugin_library import LANE_OUTPUTS, LaneOutputs, PluginLibrary
from trt_lane.sealed_json import seal


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


def gpu(cpu, tmp_path, **changes) -> EngineArtifact:
    """The same engine with a sidecar that says TensorRT 10.3 on sm_87."""
    values = {
        **cpu.to_dict(), "runtime": "tensorrt", "built_with": "10.3.0",
        "runtime_range": ["10.3.0", "10.3.1"], "compute_capabilities": [87], **changes,
    }  # fmt: skip
    (tmp_path / cpu.engine).write_bytes(cpu.engine_path.read_bytes())
    (tmp_path / SIDECAR).write_bytes(seal(values))
    return EngineArtifact.load(tmp_path)


@pytest.fixture
def artifact(cpu, tmp_path):
    return gpu(cpu, tmp_path)


def opened(artifact, recording, stages=None, **options):
    trt = tensorrt(recording, **options)
    return TensorRtBackend(artifact, trt=trt, driver=recording.driver(), stages=stages)


def image(seed=0):
    return np.random.default_rng(seed).standard_normal((1, 3, 32, 96)).astype(np.float32)


def frame(height=59, width=164, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


# -- one frame after the other --------------------------------------------------------------------


def test_heads_are_onnxruntimes_before_during_and_after_the_capture(artifact, cpu, recording):
    expected = open_backend(cpu, threads=1)
    backend = opened(artifact, recording)
    for seed in range(5):
        heads = backend.infer(image(seed))
        np.testing.assert_array_equal(heads["logits"], expected.infer(image(seed))["logits"])
    backend.close()


def test_the_first_frame_is_enqueued_the_second_captured_the_rest_launched(artifact, recording):
    backend = opened(artifact, recording)
    copies = lambda calls: [c for c in calls if "Memcpy" not in c]  # noqa: E731
    frames = [copies(recording.frame_calls(lambda s=s: backend.infer(image(s)))) for s in range(4)]
    assert frames[0] == ["engine", "cuStreamSynchronize"]
    assert frames[1] == [
        "cuStreamBeginCapture_v2", "engine", "cuStreamEndCapture", "cuGraphInstantiateWithFlags",
        "cuGraphDestroy", "cuGraphLaunch", "cuStreamSynchronize",
    ]  # fmt: skip
    assert frames[2] == frames[3] == ["cuGraphLaunch", "cuStreamSynchronize"]
    backend.close()


def test_nothing_is_allocated_after_the_first_frame(artifact, recording):
    backend = opened(artifact, recording)
    backend.infer(image())
    calls = recording.frame_calls(lambda: [backend.infer(image(s)) for s in range(20)])
    assert not [c for c in calls if "Alloc" in c or "Free" in c or "Create" in c]
    backend.close()


def test_results_stay_the_callers_when_the_next_frame_runs(artifact, recording):
    backend = opened(artifact, recording)
    first = backend.infer(image(0))["logits"]
    kept = first.copy()
    backend.infer(image(1))
    np.testing.assert_array_equal(first, kept)
    backend.close()


def test_half_precision_tensors_are_cast_on_the_host(artifact, cpu, recording):
    expected = open_backend(cpu, threads=1).infer(image().astype(np.float16).astype(np.float32))
    backend = opened(artifact, recording, half=True)
    found = backend.infer(image())["logits"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected["logits"], rtol=2e-3, atol=1e-3)
    backend.close()


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture",
                                  "cuGraphInstantiateWithFlags", "cuGraphLaunch"])  # fmt: skip
def test_a_driver_that_refuses_a_graph(artifact, cpu, recording, call):
    """What fails at the capture's end leaves an engine that enqueues; the rest is an error."""
    backend = opened(artifact, recording)
    backend.infer(image())
    recording.fail(call)
    if call in ("cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
        for seed in range(3):
            expected = open_backend(cpu, threads=1).infer(image(seed))
            np.testing.assert_array_equal(backend.infer(image(seed))["logits"], expected["logits"])
        assert "cuGraphLaunch" not in recording.log
    else:
        with pytest.raises(DeviceError, match=call):
            backend.infer(image())
    backend.close()


def test_an_engine_that_cannot_be_captured_is_enqueued(artifact, cpu, recording):
    backend = opened(artifact, recording)
    backend.infer(image())
    recording.fail("engine")  # the enqueue during the capture
    for seed in range(3):
        expected = open_backend(cpu, threads=1).infer(image(seed))["logits"]
        np.testing.assert_array_equal(backend.infer(image(seed))["logits"], expected)
    backend.close()


def test_an_engine_that_cannot_run_is_an_error_with_its_path(artifact, recording):
    backend = opened(artifact, recording)
    recording.fail("engine")
    with pytest.raises(TrtLaneError, match=r"could not run .*engine\.onnx"):
        backend.infer(image())
    backend.close()


def test_stages_are_timed_by_events_without_a_graph(artifact, recording):
    backend = opened(artifact, recording)
    with pytest.raises(ValueError, match="time_stages"):
        _ = backend.stages_ms
    backend.infer(image())
    backend.infer(image())
    backend.time_stages()
    backend.time_stages()
    calls = recording.frame_calls(lambda: backend.infer(image()))
    assert calls.count("cuEventRecord") == 4 and "cuGraphLaunch" not in calls
    assert backend.stages_ms == {"h2d": 1.5, "network": 1.5, "d2h": 1.5}
    backend.close()


# -- frames to lanes on the device --------------------------------------------------------------


class NumpyStages:
    """Pre-processing and decoder as numpy has them, done when the stream comes to them."""

    slots, points = 2, 4

    def __init__(self, recording, artifact):
        self.recording, self.artifact, self.decoder = recording, artifact, artifact.make_decoder()

    def prepare(self, spec, frame_hw, dtype):
        self.spec, self.frame_hw, self.dtype = spec, frame_hw, dtype
        return 256

    def preprocess(self, frames, out, workspace, stream):
        frame_hw, dtype, array = self.frame_hw, self.dtype, self.recording.array

        def work():
            array(workspace, (256,), np.uint8)
            target = array(out, (len(frames), 3, *self.spec.input_hw), dtype)
            for place, address in zip(target, frames, strict=True):
                place[...] = self.spec.to_tensor(array(address, (*frame_hw, 3), np.uint8))

        assert self.recording.enqueue(stream, "preprocess", work)

    def workspace_bytes(self, batch):
        return 0

    def decode(self, heads, half, batch, outputs, workspace, stream):
        array = self.recording.array
        kind = np.float16 if half else np.float32

        def work():
            points = array(outputs[0], (batch, 2, 4, 2), np.float32)
            scores = array(outputs[1], (batch, 2), np.float32)
            count = array(outputs[2], (batch, 2), np.int32)
            points[...], scores[...], count[...] = np.nan, 0, 0
            for i in range(batch):
                given = {
                    h.name: array(heads[h.name], (batch, *h.shape), kind)[i].astype(np.float32)
                    for h in self.artifact.heads
                }
                lanes = self.decoder(**given)
                count[i, 0] = len(lanes)
                points[i, : len(lanes)] = lanes.points
                scores[i, : len(lanes)] = lanes.scores

        assert self.recording.enqueue(stream, "decode", work)


def test_frames_become_the_same_lanes_as_on_the_cpu(artifact, cpu, recording):
    with (
        LaneDetector.load(cpu.folder, threads=1) as expected,
        LaneDetector(
            artifact, opened(artifact, recording, NumpyStages(recording, artifact))
        ) as detector,
    ):
        for seed in range(4):
            picture = frame(seed=seed)
            lanes, other = detector.detect(picture), expected.detect(picture)
            np.testing.assert_array_equal(lanes.points, other.points)
            np.testing.assert_array_equal(lanes.scores, other.scores)


def test_one_launch_holds_all_of_a_frame(artifact, recording):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    calls = [recording.frame_calls(lambda: backend.lanes([frame()])) for _ in range(3)]
    work = [c for c in calls[1] if c in ("preprocess", "engine", "decode")]
    assert work == ["preprocess", "engine", "decode"]
    assert calls[2] == ["cuGraphLaunch", "cuStreamSynchronize"]
    backend.close()


def test_a_frame_of_another_size_is_captured_anew_and_back(artifact, cpu, recording):
    with (
        LaneDetector.load(cpu.folder, threads=1) as expected,
        LaneDetector(
            artifact, opened(artifact, recording, NumpyStages(recording, artifact))
        ) as detector,
    ):
        for height, width in ((59, 164),) * 3 + ((118, 328),) * 3 + ((59, 164),) * 3:
            picture = frame(height, width, seed=height)
            lanes, other = detector.detect(picture), expected.detect(picture)
            np.testing.assert_array_equal(lanes.points, other.points)
            assert lanes.frame_hw == (height, width)
    assert recording.log.count("cuGraphInstantiateWithFlags") == 3


def test_heads_that_are_not_finite_are_seen(artifact, recording):
    class Broken(NumpyStages):
        def decode(self, heads, *rest):
            shape = (1, *self.artifact.heads[0].shape)

            def work():
                self.recording.array(heads["logits"], shape, np.float32)[0, 1, 2, 1] = np.nan

            assert self.recording.enqueue(rest[-1], "fault", work)
            super().decode(heads, *rest)

    with LaneDetector(artifact, opened(artifact, recording, Broken(recording, artifact))) as d:
        (found,) = d.detect_many([frame()])
    assert not found.sound and len(found.lanes) == 0


def test_the_plugins_kernels_give_the_same_lanes(artifact, cpu, recording, monkeypatch):
    """The shipped stages, whose kernels run on the CPU here, thread by thread."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "plugins")
    plugins = pytest.importorskip("plugin_builds")
    if plugins.compiler() is None:
        pytest.skip("no C++ compiler here")
    library = PluginLibrary(plugins.library(plugins.Build(kernels=True)))
    shapes = {h.name: h.shape for h in artifact.heads}

    class Deferred(PluginStages):
        def preprocess(self, *arguments):
            assert recording.enqueue(
                arguments[-1], "preprocess", lambda: PluginStages.preprocess(self, *arguments)
            )

        def decode(self, *arguments):
            assert recording.enqueue(
                arguments[-1], "decode", lambda: PluginStages.decode(self, *arguments)
            )

    stages = Deferred(library, library.make(artifact.decoder, shapes))
    with (
        LaneDetector.load(cpu.folder, threads=1) as expected,
        LaneDetector(artifact, opened(artifact, recording, stages)) as detector,
    ):
        for seed in range(3):
            picture = frame(seed=seed)
            lanes, other = detector.detect(picture), expected.detect(picture)
            np.testing.assert_allclose(lanes.points, other.points, atol=1e-3)


def with_lane_outputs(path, batch=1):
    """The engine with three more outputs, as a decoder's plugin in its graph gives them."""
    model = onnx.load(path)
    points = np.arange(batch * 2 * 4 * 2, dtype=np.float32).reshape(batch, 2, 4, 2)
    values = (points, np.float32([[0.9, 0]] * batch), np.int32([[1, 0]] * batch))
    for name, value in zip(LANE_OUTPUTS, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value, f"{name}_value"))
        model.graph.node.append(helper.make_node("Identity", [f"{name}_value"], [name]))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.output.append(helper.make_tensor_value_info(name, kind, value.shape))
    onnx.save(model, path)
    return points


def test_a_decoder_in_the_engine_itself_is_used(cpu, tmp_path, recording):
    class NoDecoder(NumpyStages):
        def decode(self, *arguments):
            raise AssertionError("the engine decodes")

    values = gpu(cpu, tmp_path).to_dict()
    points = with_lane_outputs(tmp_path / cpu.engine)
    values["digests"] = {"engine": sha256_file(tmp_path / cpu.engine)}
    (tmp_path / SIDECAR).write_bytes(seal(values))
    artifact = EngineArtifact.load(tmp_path)
    backend = opened(artifact, recording, NoDecoder(recording, artifact))
    for _ in range(3):
        outputs, sound = backend.lanes([frame()])
        np.testing.assert_array_equal(outputs.points, points)
        assert outputs.count.tolist() == [[1, 0]] and sound == [True]
    backend.close()


def test_outputs_are_copies(artifact, recording):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    outputs, sound = backend.lanes([frame(seed=1)])
    kept = LaneOutputs(outputs.points.copy(), outputs.scores.copy(), outputs.count.copy())
    backend.lanes([frame(seed=2)])
    np.testing.assert_array_equal(outputs.points, kept.points)
    assert sound == [True]
    backend.close()


# -- opening and closing ------------------------------------------------------------------------


def test_everything_is_given_back_in_order(artifact, recording):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    for _ in range(3):
        backend.lanes([frame()])
    backend.time_stages()
    before = len(recording.log)
    backend.close()
    backend.close()
    log = recording.log[before:]
    order = ["cuStreamSynchronize", "context destroyed", "engine destroyed", "cuEventDestroy_v2",
             "cuMemFreeHost", "cuStreamDestroy_v2", "cuDevicePrimaryCtxRelease_v2"]  # fmt: skip
    assert [log.index(step) for step in order] == sorted(log.index(step) for step in order)
    assert log[-1] == "cuDevicePrimaryCtxRelease_v2"


@pytest.mark.parametrize("use", ["infer", "run", "lanes"])
def test_use_after_close_is_refused_before_the_driver_hears_of_it(artifact, recording, use):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    backend.close()
    before = len(recording.log)
    with pytest.raises(TrtLaneError, match="closed"):
        getattr(backend, use)([frame()] if use == "lanes" else image())
    assert len(recording.log) == before


ALLOCATING = ("cuMemHostAlloc", "cuMemAlloc_v2", "cuStreamCreate", "cuDevicePrimaryCtxRetain",
              "cuMemHostGetDevicePointer_v2")  # fmt: skip


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("call", ALLOCATING)
def test_what_fails_while_opening_leaves_nothing_behind(artifact, recording, call, number):
    recording.fail(call, number, code=2)
    try:
        backend = opened(artifact, recording, NumpyStages(recording, artifact))
    except TrtLaneError as error:
        assert "memory" in str(error).lower()
    else:
        backend.close()


@pytest.mark.parametrize("call", ["cuMemHostAlloc", "cuMemAlloc_v2"])
def test_too_little_memory_for_a_larger_frame_leaves_a_backend_that_still_runs(
    artifact, recording, call
):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    backend.lanes([frame()])
    recording.fail(call, code=2)
    try:
        backend.lanes([frame(590, 1640)])
    except DeviceError as error:
        assert error.out_of_memory
    outputs, _ = backend.lanes([frame()])
    assert np.isfinite(outputs.scores).all()
    backend.close()


def test_a_device_that_is_lost_is_an_error_and_closing_it_one_more(artifact, the_recording):
    recording = the_recording
    recording.reset()
    backend = opened(artifact, recording)
    backend.infer(image())
    recording.break_device()
    with pytest.raises(DeviceError, match="MADE_UP"):
        backend.infer(image())
    with pytest.raises(DeviceError):
        backend.close()
    backend.close()
    assert "contexts" not in " ".join(recording.live)


def test_too_little_memory_for_a_context_is_said(artifact, recording):
    with pytest.raises(TrtLaneError, match=r"not enough GPU memory.*1024 MiB free"):
        opened(artifact, recording, context=None)


def test_an_engine_that_does_not_deserialise_is_said(cpu, tmp_path, recording):
    values = {**gpu(cpu, tmp_path).to_dict()}
    values["digests"] = {"engine": hashlib.sha256(b"x").hexdigest()}
    (tmp_path / cpu.engine).write_bytes(b"x")
    (tmp_path / SIDECAR).write_bytes(seal(values))
    artifact = EngineArtifact.load(tmp_path)
    with pytest.raises(TrtLaneError, match="cannot load"):
        opened(artifact, recording)


@pytest.mark.parametrize(
    "change",
    [{"input_name": "picture"}, {"heads": [{"name": "logits", "shape": [3, 4, 5]}]},
     {"heads": [{"name": "exist", "shape": [2]}]}, {"batch": 2}],
)  # fmt: skip
def test_an_engine_that_is_not_what_its_sidecar_says_is_refused(cpu, tmp_path, recording, change):
    with pytest.raises(TrtLaneError, match="sidecar says"):
        opened(gpu(cpu, tmp_path, **change), recording)


def test_another_version_or_device_is_refused_before_anything_is_made(artifact, the_recording):
    for version, capability in (("11.1.0", 87), ("10.3.0", 89)):
        the_recording.reset(capability)
        with pytest.raises(TrtLaneError, match="make engine"):
            opened(artifact, the_recording, version=version)
        assert the_recording.live == []


def test_a_dla_core_is_chosen_or_refused(cpu, tmp_path, recording):
    artifact = gpu(cpu, tmp_path, info={"dla_core": 1})
    with pytest.raises(TrtLaneError, match=r"DLA core 1, this tensorrt has 0"):
        opened(artifact, recording)
    trt = tensorrt(recording, dla_cores=2)
    backend = TensorRtBackend(artifact, trt=trt, driver=recording.driver())
    assert trt.runtimes[-1].DLA_core == 1
    backend.close()


@pytest.mark.parametrize("bad", [np.zeros((1, 3, 32, 95), np.float32), np.zeros((1, 3, 32, 96))])
def test_a_wrong_input_is_refused(artifact, recording, bad):
    backend = opened(artifact, recording)
    with pytest.raises(TrtLaneError, match="expected float32"):
        backend.infer(bad)
    backend.close()


def test_no_driver_and_no_device_are_said(the_recording):
    with pytest.raises(TrtLaneError, match="TARGET=cpu"):
        CudaDriver(library="libno_such_cuda.so.9")
    the_recording.reset()
    with pytest.raises(TrtLaneError, match="finds none"):
        CudaDriver(device=3, library=str(the_recording.path))
    assert the_recording.driver().version == "12.6"


# -- the recording itself -----------------------------------------------------------------------


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
