import dataclasses
import json

import pytest
from tiny_artifact import make_artifact
from tiny_bundle import make_tiny_bundle

from trt_lane.bundle.archive import file_entry
from trt_lane.bundle.golden import GOLDEN
from trt_lane.bundle.manifest import MANIFEST, Manifest
from trt_lane.cli import main
from trt_lane.errors import TrtLaneError
from trt_lane.installing.install import install
from trt_lane.installing.store import Store
from trt_lane.selfcheck import selfcheck


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"), budget_ms=5000)


@pytest.fixture
def root(bundle, tmp_path):
    install(bundle, Store(tmp_path), threads=1)
    return tmp_path


def words(root, *more):
    return ["selfcheck", "--root", str(root), "--threads", "1", "--frames", "20", *more]


def test_a_sound_vehicle_passes_with_one_line_for_a_bug_report(root, capsys):
    assert main(words(root)) == 0
    lines = capsys.readouterr().out.splitlines()
    report = next(line for line in lines if line.startswith("report"))
    for part in ("ufld@", "onnxruntime 1.", "golden pass", "p99", "of 5000", "PASS"):
        assert part in report
    assert any("kept" in line for line in lines)


def test_json_has_what_the_table_has(root, capsys):
    assert main(words(root, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] and found["golden"]["agreement"] == 1.0
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]


def test_lanes_elsewhere_fail_the_check(root, capsys):
    path = Store(root).current_folder() / GOLDEN
    golden = json.loads(path.read_text())
    for frame in golden["frames"]:
        for lane in frame["int8"]["lanes"]:
            lane["points"] = [[x + 30, y] for x, y in lane["points"]]
    path.write_text(json.dumps(golden))
    folder = Store(root).current_folder()
    manifest = Manifest.from_bytes((folder / MANIFEST).read_bytes())
    files = {**manifest.files, GOLDEN: file_entry(path)}
    (folder / MANIFEST).write_bytes(dataclasses.replace(manifest, files=files).to_bytes())
    assert main(words(root)) == 1
    assert "golden FAIL" in capsys.readouterr().out


@pytest.mark.parametrize("name", [GOLDEN, "golden/1.png"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_golden_frames_that_are_not_the_bundles_judge_nothing(root, capsys, name, how):
    path = Store(root).current_folder() / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    assert main(words(root)) == 2
    err = capsys.readouterr().err
    assert f"{name} is not the file of the bundle" in err and "trt-lane install BUNDLE" in err


def test_a_missed_budget_fails_the_check(tmp_path, capsys):
    bundle = make_tiny_bundle(tmp_path / "bundle", budget_ms=0.001)
    install(bundle, Store(tmp_path / "root"), threads=1)
    assert main(words(tmp_path / "root")) == 1
    out = capsys.readouterr().out
    assert "MISSED" in out and "FAIL" in out.splitlines()[-1]


def test_a_damaged_engine_is_one_line_with_the_devices_facts(root, capsys):
    engine = Store(root).current_folder() / "engine.onnx"
    engine.write_bytes(engine.read_bytes()[:-1])
    assert main(words(root)) == 2
    err = capsys.readouterr().err
    assert "not the file that was built" in err and "machine" in err and err.count("\n") == 1
    assert "run: trt-lane install BUNDLE, or trt-lane rollback" in err  # there is no make here


def test_an_engine_that_came_without_a_bundle_has_no_golden_frames(tmp_path):
    with pytest.raises(TrtLaneError, match="make bundle"):
        selfcheck(make_artifact(tmp_path).folder)
