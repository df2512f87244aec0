"""The GPU backend against a driver that records its calls and a TensorRT that runs ONNX graphs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from gpu_setup import NumpyStages, frame, gpu, image, opened
from onnx import helper, numpy_helper

from trt_lane.artifact import SIDECAR, EngineArtifact
from trt_lane.backends import open_backend
from trt_lane.backends.cuda_driver import DeviceError
from trt_lane.backends.device_stages import PluginStages
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.plugin_library import LANE_OUTPUTS, LaneOutputs, PluginLibrary
from trt_lane.sealed_json import seal

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


def detected_by_both(artifact, backend, cpu, pictures):
    """The device's lanes and the CPU's of every picture, seen one after the other."""
    with (
        LaneDetector.load(cpu.folder, threads=1) as on_cpu,
        LaneDetector(artifact, backend) as on_device,
    ):
        return [(on_device.detect(picture), on_cpu.detect(picture)) for picture in pictures]


def test_frames_become_the_same_lanes_as_on_the_cpu(artifact, cpu, recording):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    pictures = [frame(seed=seed) for seed in range(4)]
    for lanes, expected in detected_by_both(artifact, backend, cpu, pictures):
        np.testing.assert_array_equal(lanes.points, expected.points)
        np.testing.assert_array_equal(lanes.scores, expected.scores)


def test_one_launch_holds_all_of_a_frame(artifact, recording):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    calls = [recording.frame_calls(lambda: backend.lanes([frame()])) for _ in range(3)]
    work = [c for c in calls[1] if c in ("preprocess", "engine", "decode")]
    assert work == ["preprocess", "engine", "decode"]
    assert calls[2] == ["cuGraphLaunch", "cuStreamSynchronize"]
    backend.close()


def test_a_frame_of_another_size_is_captured_anew_and_back(artifact, cpu, recording):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    sizes = ((59, 164),) * 3 + ((118, 328),) * 3 + ((59, 164),) * 3
    pictures = [frame(*size, seed=size[0]) for size in sizes]
    found = detected_by_both(artifact, backend, cpu, pictures)
    for size, (lanes, expected) in zip(sizes, found, strict=True):
        np.testing.assert_array_equal(lanes.points, expected.points)
        assert lanes.frame_hw == size
    assert recording.log.count("cuGraphInstantiateWithFlags") == 3


def test_a_size_that_the_kernels_do_not_take_is_done_on_the_host(artifact, cpu, recording):
    class Small(NumpyStages):
        def prepare(self, spec, frame_hw, dtype):
            if frame_hw[0] > 100:
                raise TrtLaneError("frame_hw is too large")
            return super().prepare(spec, frame_hw, dtype)

    backend = opened(artifact, recording, Small(recording, artifact))
    pictures = [frame(*size) for size in ((59, 164), (118, 328), (118, 328), (59, 164))]
    for lanes, expected in detected_by_both(artifact, backend, cpu, pictures):
        np.testing.assert_array_equal(lanes.points, expected.points)


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
    monkeypatch.setenv("TRT_LANE_ONLY", "row_anchor")
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
    backend = opened(artifact, recording, stages)
    pictures = [frame(seed=seed) for seed in range(3)]
    for lanes, expected in detected_by_both(artifact, backend, cpu, pictures):
        np.testing.assert_allclose(lanes.points, expected.points, atol=1e-3)


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
        outputs = backend.lanes([frame()])
        np.testing.assert_array_equal(outputs.points, points)
        assert outputs.count.tolist() == [[1, 0]] and outputs.sound(0)
    backend.close()


def test_outputs_are_copies(artifact, recording):
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    outputs = backend.lanes([frame(seed=1)])
    kept = LaneOutputs(outputs.points.copy(), outputs.scores.copy(), outputs.count.copy())
    backend.lanes([frame(seed=2)])
    np.testing.assert_array_equal(outputs.points, kept.points)
    assert outputs.sound(0)
    backend.close()
