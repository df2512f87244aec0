"""A GPU artifact and backends of it, on the recording driver."""

from __future__ import annotations

import numpy as np
from recording import tensorrt

from trt_lane.artifact import SIDECAR, EngineArtifact
from trt_lane.backends.tensorrt import TensorRtBackend
from trt_lane.plugin_library import UNSOUND
from trt_lane.sealed_json import seal


def gpu(cpu, tmp_path, **changes) -> EngineArtifact:
    """The same engine with a sidecar that says TensorRT 10.3 on sm_87."""
    values = {
        **cpu.to_dict(), "runtime": "tensorrt", "built_with": "10.3.0",
        "runtime_range": ["10.3.0", "10.3.1"], "compute_capabilities": [87], **changes,
    }  # fmt: skip
    (tmp_path / cpu.engine).write_bytes(cpu.engine_path.read_bytes())
    (tmp_path / SIDECAR).write_bytes(seal(values))
    return EngineArtifact.load(tmp_path)


def opened(artifact, recording, stages=None, **options):
    trt = tensorrt(recording, **options)
    return TensorRtBackend(artifact, trt=trt, driver=recording.driver(), stages=stages)


def image(seed=0):
    return np.random.default_rng(seed).standard_normal((1, 3, 32, 96)).astype(np.float32)


def frame(height=59, width=164, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


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
                if not all(np.isfinite(head).all() for head in given.values()):
                    count[i, 1] = UNSOUND
                lanes = self.decoder(**given)
                count[i, 0] = len(lanes)
                points[i, : len(lanes)] = lanes.points
                scores[i, : len(lanes)] = lanes.scores

        assert self.recording.enqueue(stream, "decode", work)
