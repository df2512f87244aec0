import json

import numpy as np
import pytest
from tiny_artifact import make_artifact

from trt_lane.artifact import SIDECAR, EngineArtifact, version_numbers
from trt_lane.errors import TrtLaneError
from trt_lane.sealed_json import seal


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def artifact(original, tmp_path):
    for path in (original.engine_path, original.folder / SIDECAR):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return EngineArtifact.load(tmp_path)


def rewrite(artifact, **changes):
    """A sidecar with other values and a digest that agrees: what a wrong writer would make."""
    values = {**artifact.to_dict(), **changes}
    (artifact.folder / SIDECAR).write_bytes(seal(values))


def test_folder_sidecar_and_engine_all_name_the_artifact(artifact):
    for path in (artifact.folder, artifact.folder / SIDECAR, artifact.engine_path):
        assert EngineArtifact.load(path) == artifact
    assert artifact.digests.keys() >= {"engine", "onnx", "scales", "weights"}


def test_a_saved_artifact_loads_as_it_was(artifact, tmp_path):
    assert artifact.save() == tmp_path / SIDECAR
    assert EngineArtifact.load(tmp_path).to_dict() == artifact.to_dict()


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flipped_byte_of_the_sidecar_is_refused(artifact, stride):
    path = artifact.folder / SIDECAR
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(0, len(data), stride):
        changed = bytearray(data)
        changed[i] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(changed))
        with pytest.raises(TrtLaneError):
            EngineArtifact.load(artifact.folder)


def test_a_space_for_a_newline_is_a_changed_byte_too(artifact):
    path = artifact.folder / SIDECAR
    path.write_bytes(path.read_bytes().replace(b"\n", b" ", 1))
    with pytest.raises(TrtLaneError, match="changed after"):
        EngineArtifact.load(artifact.folder)


@pytest.mark.parametrize("position", [0, 100, -1])
def test_a_flipped_byte_of_the_engine_is_refused_with_the_mending_command(artifact, position):
    data = bytearray(artifact.engine_path.read_bytes())
    data[position] ^= 1
    artifact.engine_path.write_bytes(bytes(data))
    with pytest.raises(TrtLaneError, match="make engine MODEL=ufld TARGET=cpu"):
        EngineArtifact.load(artifact.folder)


@pytest.mark.parametrize("keep", [0, 1, 500])
def test_a_truncated_engine_or_sidecar_is_refused(artifact, keep):
    for path in (artifact.engine_path, artifact.folder / SIDECAR):
        whole = path.read_bytes()
        path.write_bytes(whole[:keep])
        with pytest.raises(TrtLaneError):
            EngineArtifact.load(artifact.folder)
        path.write_bytes(whole)
    assert EngineArtifact.load(artifact.folder) == artifact


def test_missing_files_are_named(artifact, tmp_path):
    artifact.engine_path.unlink()
    with pytest.raises(TrtLaneError, match=r"engine\.onnx is missing"):
        EngineArtifact.load(tmp_path)
    (tmp_path / SIDECAR).unlink()
    with pytest.raises(TrtLaneError, match="no sidecar"):
        EngineArtifact.load(tmp_path)
    with pytest.raises(TrtLaneError, match="no artifact"):
        EngineArtifact.load(tmp_path / "nowhere")


def test_a_file_beside_the_engine_is_not_taken_for_it(artifact, tmp_path):
    other = tmp_path / "old.onnx"
    other.write_bytes(b"x")
    with pytest.raises(TrtLaneError, match="is not the engine"):
        EngineArtifact.load(other)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}',
     b'{"schema": 1}', b'{"schema": [1]}', b'{"schema": 1, "model": NaN}'],
)  # fmt: skip
def test_json_that_is_no_sidecar_is_refused(artifact, content):
    (artifact.folder / SIDECAR).write_bytes(content)
    with pytest.raises(TrtLaneError):
        EngineArtifact.load(artifact.folder)


@pytest.mark.parametrize("schema", [0, 2, "1"])
def test_another_schema_is_refused_with_the_mending_command(artifact, schema):
    rewrite(artifact, schema=schema)
    with pytest.raises(TrtLaneError, match=r"schema .*make engine MODEL=ufld"):
        EngineArtifact.load(artifact.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"engine": 5}, {"engine": "../engine.onnx"}, {"engine": ""}, {"engine": ".."},
        {"model": None}, {"image": []}, {"image": {"frame_hw": [1]}}, {"image": "x"},
        {"heads": []}, {"heads": {}}, {"heads": [1]}, {"heads": [{"name": "x", "shape": [0]}]},
        {"heads": [{"name": "x", "shape": ["2"]}]}, {"runtime": "tvm"}, {"runtime_range": "ab"},
        {"runtime_range": ["2", "1"]}, {"runtime_range": [1, 2, 3]}, {"digests": []},
        {"digests": {}}, {"digests": {"engine": 5}}, {"decoder": {"name": "nope"}},
        {"decoder": []}, {"decoder": {"name": "row_anchor", "rows": 1}},
        {"compute_capabilities": "87"}, {"compute_capabilities": [8.7]}, {"info": 5},
        {"plugin_library": 5}, {"plugin_library": "x.so"}, {"surprise": 1},
        {"model": "ufld; reboot"}, {"target": "cpu && reboot"}, {"precision": "\x1b[2J"},
        {"heads": [{"name": 5, "shape": [2]}]}, {"engine": "a\0b"},
    ],
)  # fmt: skip
def test_wrong_values_under_a_right_digest_are_refused(artifact, change):
    rewrite(artifact, **change)
    with pytest.raises(TrtLaneError) as refused:
        EngineArtifact.load(artifact.folder)
    # The command is there to be pasted.
    assert "run: make engine MODEL=" in str(refused.value)
    assert "reboot" not in str(refused.value).partition("run: ")[2]


def test_another_runtime_version_is_refused_with_the_mending_command(artifact):
    artifact.check_runtime("1.32.0")
    with pytest.raises(TrtLaneError, match=r"this is 1\.17\.3 .*make engine MODEL=ufld TARGET=cpu"):
        artifact.check_runtime("1.17.3")


def test_another_gpu_is_refused_in_the_words_of_both_devices(artifact):
    rewrite(
        artifact, runtime="tensorrt", built_with="10.3.0", runtime_range=["10.3.0", "10.3.1"],
        compute_capabilities=[87], target="jetson-orin",
    )  # fmt: skip
    orin = EngineArtifact.load(artifact.folder)
    orin.check_runtime("10.3.0.26", 87)
    with pytest.raises(TrtLaneError, match=r"for sm_87 with tensorrt 10\.3\.0, this is sm_89"):
        orin.check_runtime("10.3.0.26", 89)
    with pytest.raises(TrtLaneError, match=r"11\.1.*TARGET=jetson-orin"):
        orin.check_runtime("11.1.0", 87)


def test_the_sidecar_is_plain_json_for_other_tools(artifact):
    values = json.loads((artifact.folder / SIDECAR).read_text())
    assert values["decoder"]["name"] == "row_anchor" and values["image"]["input_hw"] == [32, 96]


def test_versions_are_numbers():
    assert version_numbers("10.3.0.26") == (10, 3, 0, 26)
    assert version_numbers("1.18.0rc1") == (1, 18)
    with pytest.raises(ValueError, match="no version"):
        version_numbers("latest")
