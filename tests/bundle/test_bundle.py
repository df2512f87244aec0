import dataclasses
import os
import subprocess
import tarfile

import numpy as np
import pytest
from tiny_bundle import make_tiny_bundle, rewrite, write_frames

from engines.__main__ import main
from trt_lane.bundle.archive import file_entry, open_bundle, write_bundle
from trt_lane.bundle.golden import GoldenSet, judge
from trt_lane.bundle.manifest import FileEntry, Manifest
from trt_lane.bundle.tar_header import header
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.installing.install import install
from trt_lane.installing.store import Store
from trt_lane.lanes import LaneSet


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def test_a_bundle_is_a_plain_tar_with_everything_the_vehicle_needs(bundle, tmp_path):
    with tarfile.open(bundle) as tar:
        names = tar.getnames()
        assert all(m.isfile() and m.mtime == m.uid == m.gid == 0 for m in tar.getmembers())
    assert names[0] == "manifest.json" and names[1:] == sorted(names[1:])
    assert {"model.onnx", "engine.onnx", "golden/golden.json", "LICENCES.txt"} <= set(names)
    listed = subprocess.run(["tar", "tf", bundle], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == names


def test_the_same_sources_give_the_same_bytes(bundle, tmp_path):
    again = make_tiny_bundle(bundle.parent)  # the same folder: it is named in the manifest
    first = again.read_bytes()
    assert make_tiny_bundle(bundle.parent).read_bytes() == first


def test_what_is_unpacked_is_what_went_in(bundle, tmp_path):
    with open_bundle(bundle) as reader:
        reader.verify()
        reader.unpack(tmp_path)
        for name, entry in reader.manifest.files.items():
            assert file_entry(tmp_path / name) == entry
        assert Manifest.from_bytes((tmp_path / "manifest.json").read_bytes()) == reader.manifest
    assert (tmp_path / "engine.onnx").read_bytes() == (
        bundle.parent / "cpu/engine.onnx"
    ).read_bytes()


def test_the_header_is_ustars():
    block = header("golden/0.png", 1234)
    info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    assert (info.name, info.size, info.isreg()) == ("golden/0.png", 1234, True)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "manifest.json", "signature.json", ".x", "a b", "", "a/"]
)
def test_a_name_that_leaves_the_folder_or_hides_is_no_name(bundle, name):
    with open_bundle(bundle) as reader:
        manifest = reader.manifest
    files = {**manifest.files, name: FileEntry(0, "0" * 64)}
    with pytest.raises(ValueError, match="plain file name"):
        dataclasses.replace(manifest, files=files)


def test_a_file_that_is_a_folder_too_is_refused(bundle):
    with open_bundle(bundle) as reader:
        files = {**reader.manifest.files, "golden": FileEntry(0, "0" * 64)}
        with pytest.raises(ValueError, match="a file and a folder"):
            dataclasses.replace(reader.manifest, files=files)


def test_a_file_that_changes_while_the_bundle_is_written_leaves_no_bundle(bundle, tmp_path):
    with open_bundle(bundle) as reader:
        manifest = reader.manifest
        reader.unpack(tmp_path)
    (tmp_path / "LICENCES.txt").write_bytes(b"x" * manifest.files["LICENCES.txt"].size)
    with pytest.raises(TrtLaneError, match=r"LICENCES\.txt changed"):
        write_bundle(tmp_path / "b.tar", manifest, None, {n: tmp_path / n for n in manifest.files})
    assert not (tmp_path / "b.tar").exists()


def test_another_schema_says_what_to_do(bundle, tmp_path):
    from trt_lane.sealed_json import seal, unseal

    with open_bundle(bundle) as reader:
        values = unseal(reader.manifest_bytes)
    with pytest.raises(TrtLaneError, match=r"schema 9.*make bundle"):
        Manifest.from_bytes(seal({**values, "schema": 9}))


def test_golden_lanes_pass_as_they_are_and_fail_bent_or_missing(bundle, tmp_path):
    with open_bundle(bundle) as reader:
        reader.unpack(tmp_path)
    golden = GoldenSet.load(tmp_path)
    found = [f.int8_lanes for f in golden.frames]
    assert judge(golden, found).passed
    assert judge(golden, found).distortion_px == 0
    bent = [
        LaneSet(x.points + np.float32([0.1 * x.frame_hw[1], 0]), x.scores, x.frame_hw)
        for x in found
    ]
    assert not judge(golden, bent).passed
    assert not judge(golden, [LaneSet.from_lanes([], x.frame_hw) for x in found]).passed


def test_golden_frames_without_lanes_prove_nothing(tmp_path):
    with pytest.raises(ValueError, match="prove nothing"):
        GoldenSet(())


def test_the_command_packs_and_says_what_to_run_on_the_device(bundle, tmp_path, capsys):
    made = bundle.parent
    words = ["bundle", made / "qdq.onnx", "--float-onnx", made / "float.onnx", "--target", "cpu",
             "--engine", made / "cpu/engine.onnx", "--data", write_frames(tmp_path / "frames"),
             "--budget-ms", "50", "--out", tmp_path / "b.tar"]  # fmt: skip
    assert main(list(map(str, words))) == 0
    assert "trt-lane install b.tar" in capsys.readouterr().out
    with open_bundle(tmp_path / "b.tar") as reader:
        assert reader.manifest.budget_ms == 50 and reader.manifest.model == "ufld"
    assert main(list(map(str, [*words[:6], *words[8:]]))) == 2
    assert "needs --engine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scales", "nowhere.npz"], "no file nowhere.npz"),
        (["--scales", "."], "no file ."),
        (["--plugins", "nowhere.so"], "no file nowhere.so"),
        (["--plugin-sources", "nowhere"], "nowhere holds no host.cpp"),
        (["--sign", "nowhere.key"], "cannot read the key nowhere.key"),
        (["--budget-ms", "nan"], "--budget-ms is nan"),
    ],
)
def test_what_is_missing_is_said_before_golden_frames_are_made(
    bundle, tmp_path, capsys, monkeypatch, words, message
):
    if words[0] == "--sign":
        pytest.importorskip("cryptography", reason="cryptography is not installed")
    monkeypatch.setattr("engines.bundle._golden", None)
    made = bundle.parent
    given = ["bundle", made / "qdq.onnx", "--float-onnx", made / "float.onnx", "--target", "cpu",
             "--engine", made / "cpu/engine.onnx", "--data", write_frames(tmp_path / "frames"),
             "--out", tmp_path / "b.tar", *words]  # fmt: skip
    assert main(list(map(str, given))) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not (tmp_path / "b.tar").exists()


def test_a_pipe_is_no_bundle(tmp_path):
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(TrtLaneError, match="is a pipe"), open_bundle(f"/dev/fd/{reading}"):
        pass
    os.close(reading)


def test_a_rewritten_manifest_is_read_back_as_it_was_written(bundle, tmp_path):
    with open_bundle(rewrite(bundle, tmp_path / "b.tar", budget_ms=5)) as reader:
        reader.verify()
        assert reader.manifest.budget_ms == 5


@pytest.fixture(scope="module")
def of_three(tmp_path_factory):
    """A bundle of an engine that takes three frames at once."""
    return make_tiny_bundle(tmp_path_factory.mktemp("three"), batch=3)


def test_an_engine_of_several_frames_finds_each_frames_own_lanes(bundle, of_three, tmp_path):
    stores = [Store(tmp_path / name) for name in ("one", "three")]
    for archive, store in zip((bundle, of_three), stores, strict=True):
        assert install(archive, store, threads=1).golden.passed
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (59, 164, 3), np.uint8) for _ in range(5)]
    with (
        LaneDetector.load(stores[0].current_folder(), threads=1) as one,
        LaneDetector.load(stores[1].current_folder(), threads=1) as three,
    ):
        assert (one.batch, three.batch) == (1, 3)
        found = three.detect_many(frames)
        assert len(found) == 5
        for frame, detection in zip(frames, found, strict=True):
            np.testing.assert_array_equal(one.detect(frame).points, detection.lanes.points)
