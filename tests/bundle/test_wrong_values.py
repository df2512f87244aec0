"""Bundles that are whole and whose values cannot be: what a wrong or a wicked writer would make."""

import copy
import json

import pytest
from corruptions import members
from tiny_bundle import make_tiny_bundle

from trt_lane.bundle.archive import file_entry, open_bundle, write_bundle
from trt_lane.bundle.golden import GOLDEN, GoldenSet
from trt_lane.bundle.manifest import Manifest
from trt_lane.bundle.tar_header import BLOCK, header
from trt_lane.cli import main
from trt_lane.errors import TrtLaneError
from trt_lane.sealed_json import seal, unseal


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def changed(values, path, value):
    values = copy.deepcopy(values)
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return values


def with_manifest(data, path, value):
    first = members(data)[0]
    text = seal(changed(unseal(data[BLOCK : BLOCK + first.size]), path, value))
    rest = data[BLOCK + first.size + -first.size % BLOCK :]
    return header(first.name, len(text)) + text + bytes(-len(text) % BLOCK) + rest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model",), "ufld; reboot"), (("model",), "\x1b[2J"), (("model",), "\ud800"),
        (("precision",), "int8\x1b]0;x\x07"), (("input_name",), "\ud800"), (("made_by",), 5),
        (("digests",), {}), (("digests", "onnx"), "\x1b[2J"), (("digests", "weights"), "x"),
        (("heads", 0, "name"), None), (("heads", 0, "name"), ""), (("heads", 0, "shape"), []),
        (("image", "frame_hw"), [590.0, 1640]), (("image", "frame_hw"), [10**400, 1640]),
        (("image", "input_hw"), [True, 96]), (("image", "crop_top"), 1.5),
        (("image", "resized_crop_top"), 10**12),
        (("decoder", "cells"), 1.5), (("decoder", "cells"), 10**400), (("decoder", "frame_hw"), []),
        (("decoder", "rows_px"), [1]), (("decoder", "lanes"), 10**12),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_manifest_that_says_what_cannot_be_is_one_clear_error(
    bundle, tmp_path, capsys, path, value
):
    bad = tmp_path / "bad.tar"
    bad.write_bytes(with_manifest(bundle.read_bytes(), path, value))
    root = tmp_path / "root"
    assert main(["install", str(bad), "--root", str(root), "--threads", "1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "\x1b" not in err
    assert not list((root / "engines").iterdir()) and not list(root.glob(".*"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), None), (("schema",), 2), (("frames",), {}), (("frames", 0), 5),
        (("frames", 0, "file"), "/etc/passwd"), (("frames", 0, "file"), "golden/../../x"),
        (("frames", 0, "int8", "height"), 0), (("frames", 0, "int8", "width"), 10**400),
        (("frames", 0, "float", "height"), 10**12), (("frames", 0, "float", "height"), 1e308),
        (("frames", 0, "float", "width"), 5), (("frames", 0, "float", "lanes"), 5),
        (("frames", 0, "int8", "lanes", 0, "score"), 10**400),
        (("frames", 0, "int8", "lanes", 0, "score"), float("nan")),
        (("frames", 0, "int8", "lanes", 0, "points"), 10**400),
        (("frames", 0, "int8", "lanes", 0, "points"), [[1, float("inf")]]),
        (("frames", 0, "int8", "lanes", 0, "points"), [[1]]),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_golden_frames_that_cannot_be_are_one_clear_error(bundle, tmp_path, path, value):
    with open_bundle(bundle) as reader:
        reader.unpack(tmp_path)
    values = json.loads((tmp_path / GOLDEN).read_text())
    GoldenSet.load(tmp_path)
    (tmp_path / GOLDEN).write_text(json.dumps(changed(values, path, value) if path else value))
    with pytest.raises(TrtLaneError, match=r"golden\.json .*make the bundle again"):
        GoldenSet.load(tmp_path)


def test_a_golden_picture_that_is_none_is_one_clear_error(bundle, tmp_path, capsys):
    with open_bundle(bundle) as reader:
        manifest, unpacked = reader.manifest, tmp_path / "unpacked"
        unpacked.mkdir()
        reader.unpack(unpacked)
    (unpacked / "golden" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    files = {name: file_entry(unpacked / name) for name in manifest.files}
    values = {**unseal(manifest.to_bytes())}
    values["files"] = {k: {"size": v.size, "sha256": v.sha256} for k, v in files.items()}
    sources = {name: unpacked / name for name in files}
    write_bundle(tmp_path / "bad.tar", Manifest.from_bytes(seal(values)), None, sources)
    words = ["install", tmp_path / "bad.tar", "--root", tmp_path / "root", "--threads", "1"]
    assert main(list(map(str, words))) == 2
    assert "golden/0.png is missing or no picture" in capsys.readouterr().err
