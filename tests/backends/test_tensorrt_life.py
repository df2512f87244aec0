"""Opening, closing and refusing: nothing is left behind, whatever fails on the way."""

import hashlib

import numpy as np
import pytest
from gpu_setup import NumpyStages, frame, gpu, image, opened
from recording import tensorrt

from trt_lane.artifact import SIDECAR, EngineArtifact
from trt_lane.backends.cuda_driver import CudaDriver, DeviceError
from trt_lane.backends.tensorrt import TensorRtBackend
from trt_lane.errors import TrtLaneError
from trt_lane.sealed_json import seal


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
    outputs = backend.lanes([frame()])
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


@pytest.mark.parametrize(
    "call", ["cuMemFree_v2", "cuMemFreeHost", "cuEventDestroy_v2", "cuStreamDestroy_v2"]
)
def test_what_one_call_refuses_to_free_is_all_that_stays(artifact, the_recording, call):
    recording = the_recording
    recording.reset()
    backend = opened(artifact, recording, NumpyStages(recording, artifact))
    backend.time_stages()
    backend.lanes([frame()])
    recording.fail(call, code=700)
    with pytest.raises(DeviceError, match=call):
        backend.close()
    assert [left.split()[-1] for left in recording.live] == ["1"]


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
