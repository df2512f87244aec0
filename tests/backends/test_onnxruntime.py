import numpy as np
import pytest
from qdq_graphs import run
from tiny_artifact import make_artifact, row_anchor_pair

from trt_lane.artifact import SIDECAR, EngineArtifact
from trt_lane.backends import open_backend
from trt_lane.backends.onnxruntime import multiplies_exactly
from trt_lane.errors import TrtLaneError
from trt_lane.sealed_json import seal


@pytest.fixture
def artifact(tmp_path):
    return make_artifact(tmp_path)


def test_heads_come_by_name_without_the_batch_axis_and_near_the_float_network(artifact):
    found = row_anchor_pair()
    backend = open_backend(artifact, threads=1)
    heads = backend.infer(found.image)
    expected = run(found.float_model, found.image)[0]
    assert list(heads) == ["logits"] and heads["logits"].shape == expected.shape
    error = np.sqrt(np.mean((heads["logits"] - expected) ** 2))
    assert error < 0.1 * np.sqrt(np.mean(expected**2))


def test_results_stay_the_callers_when_the_next_frame_runs(artifact):
    backend = open_backend(artifact, threads=1)
    image = row_anchor_pair().image
    first = backend.infer(image)["logits"]
    kept = first.copy()
    backend.infer(-image)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 3, 32, 95), np.float32),
        np.zeros((3, 32, 96), np.float32),
        np.zeros((1, 3, 32, 96)),
    ],
)
def test_a_wrong_input_is_refused_with_the_expected_shape(artifact, image):
    with pytest.raises(TrtLaneError, match=r"expected float32 \(1, 3, 32, 96\)"):
        open_backend(artifact, threads=1).infer(image)


def test_a_closed_backend_says_so(artifact):
    backend = open_backend(artifact, threads=1)
    backend.close()
    backend.close()
    with pytest.raises(TrtLaneError, match="closed"):
        backend.infer(np.zeros((1, 3, 32, 96), np.float32))


def forged(artifact, **changes):
    """Sidecar and digests agree with each other but not with the network."""
    (artifact.folder / SIDECAR).write_bytes(seal({**artifact.to_dict(), **changes}))
    return EngineArtifact.load(artifact.folder)


def test_an_engine_that_is_not_what_its_sidecar_says_is_refused(artifact):
    with pytest.raises(TrtLaneError, match="its sidecar"):
        open_backend(forged(artifact, input_name="picture"))
    with pytest.raises(TrtLaneError, match="its sidecar"):
        open_backend(forged(artifact, heads=[{"name": "logits", "shape": [3, 4, 5]}]))


def test_another_version_of_onnxruntime_is_refused(artifact):
    with pytest.raises(TrtLaneError, match="make engine"):
        open_backend(forged(artifact, runtime_range=["1.0", "1.1"]))


def test_an_engine_that_is_no_onnx_is_refused(artifact):
    import hashlib

    artifact.engine_path.write_bytes(b"not a network")
    digest = hashlib.sha256(b"not a network").hexdigest()
    with pytest.raises(TrtLaneError, match="cannot load"):
        open_backend(forged(artifact, digests={"engine": digest}))


def test_slow_exact_kernels_are_for_x86_without_vnni_only():
    assert multiplies_exactly("x86_64", "flags: fpu avx512_vnni sse2")
    assert multiplies_exactly("AMD64", "flags: avx_vnni")
    assert not multiplies_exactly("x86_64", "flags: fpu avx2")
    assert not multiplies_exactly("AMD64", "")
    assert multiplies_exactly("aarch64", "")
