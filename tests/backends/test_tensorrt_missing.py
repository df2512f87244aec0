import sys

import pytest
from tiny_artifact import make_artifact

from trt_lane.artifact import SIDECAR, EngineArtifact
from trt_lane.backends import cuda_driver, open_backend
from trt_lane.errors import TrtLaneError
from trt_lane.sealed_json import seal


@pytest.fixture
def gpu_artifact(tmp_path):
    cpu = make_artifact(tmp_path)
    changes = {"runtime": "tensorrt", "compute_capabilities": [87], "target": "jetson-orin"}
    (tmp_path / SIDECAR).write_bytes(seal({**cpu.to_dict(), **changes}))
    return EngineArtifact.load(tmp_path)


def test_a_missing_tensorrt_is_named_with_a_way_on(gpu_artifact, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TrtLaneError, match=r"needs tensorrt.*TARGET=cpu"):
        open_backend(gpu_artifact)


def test_a_missing_driver_is_named_with_a_way_on(gpu_artifact, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", sys)
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libno_such_cuda.so.9")
    with pytest.raises(TrtLaneError, match=r"install the driver.*TARGET=cpu"):
        open_backend(gpu_artifact)
