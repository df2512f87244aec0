import dataclasses
import importlib.util
import json
import os
import platform
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_bundle import make_tiny_bundle, rewrite

from trt_lane.artifact import EngineArtifact
from trt_lane.building.recipe import BuilderKind, BuildRecipe
from trt_lane.bundle.archive import open_bundle
from trt_lane.bundle.golden import GOLDEN
from trt_lane.bundle.manifest import FileEntry, Needs
from trt_lane.cli import main
from trt_lane.detector import LaneDetector
from trt_lane.errors import CheckFailedError, TrtLaneError
from trt_lane.installing.engine import build_engine
from trt_lane.installing.facts import (
    MachineFacts,
    _available_memory,
    builder_version,
    check_machine,
    read_facts,
)
from trt_lane.installing.install import install
from trt_lane.installing.store import STATE, Store


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return [make_tiny_bundle(root / str(seed), seed) for seed in range(3)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "root")


def entries(store):
    return sorted(p.name for p in store.engines.iterdir())


def test_an_installed_engine_is_current_and_runs_like_any_artifact(bundles, store):
    done = install(bundles[0], store, threads=1)
    assert done.golden.passed and done.signer == "unsigned" and done.previous is None
    assert store.state().current == done.name
    with LaneDetector.load(store.current_folder(), threads=1, fit="crop") as detector:
        detector.detect(np.zeros((590, 1640, 3), np.uint8))
    assert {"artifact.json", "engine.onnx", "manifest.json", "golden"} <= {
        p.name for p in store.current_folder().iterdir()
    }


def test_the_last_one_is_kept_and_the_one_before_it_goes(bundles, store):
    names = [install(b, store, threads=1).name for b in bundles]
    assert entries(store) == names[1:]
    assert (store.state().previous, store.state().current) == tuple(names[1:])
    assert not list(store.root.glob(".*"))


def test_rollback_goes_back_and_forth(bundles, store, capsys):
    first, second = (install(b, store, threads=1).name for b in bundles[:2])
    words = ["rollback", "--root", str(store.root)]
    assert main(words) == 0 and store.state().current == first
    assert main(words) == 0 and store.state().current == second
    shutil.rmtree(store.engines / first)
    assert main(words) == 2 and store.state().current == second
    assert capsys.readouterr().err.count("\n") == 1


def test_rollback_to_an_engine_that_this_runtime_does_not_take_is_refused(bundles, store, capsys):
    """After an update of the system: the engine that works stays."""
    first, second = (install(b, store, threads=1).name for b in bundles[:2])
    old = EngineArtifact.load(store.engines / first)
    for change, message in (
        ({"runtime_range": ("0.1", "0.2")}, r"accepted: 0.1 up to but not 0.2"),
        ({"runtime": "tensorrt", "compute_capabilities": (87,)}, "tensorrt"),
    ):
        dataclasses.replace(old, **change).save()
        assert main(["rollback", "--root", str(store.root)]) == 2
        assert message in capsys.readouterr().err
        assert store.state().current == second


def test_rollback_without_a_previous_engine_is_refused(bundles, store):
    with store.locked(), pytest.raises(TrtLaneError, match="no engine before"):
        store.rollback()
    install(bundles[0], store, threads=1)
    with store.locked(), pytest.raises(TrtLaneError, match="no engine before"):
        store.rollback()


def test_an_engine_that_fails_its_golden_frames_does_not_become_current(bundles, store, tmp_path):
    name = install(bundles[0], store, threads=1).name
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with open_bundle(bundles[1]) as reader:
        manifest = reader.manifest
        reader.unpack(unpacked)
    golden = json.loads((unpacked / GOLDEN).read_text())
    for frame in golden["frames"]:
        for lane in (lane for form in ("float", "int8") for lane in frame[form]["lanes"]):
            lane["points"] = [[x + 0.2 * frame["int8"]["width"], y] for x, y in lane["points"]]
    (unpacked / GOLDEN).write_text(json.dumps(golden))
    bad = repack(unpacked, manifest, tmp_path / "bad.tar")
    with pytest.raises(CheckFailedError, match="the current one stays"):
        install(bad, store, threads=1)
    assert entries(store) == [name] and store.state().current == name
    assert not list(store.root.glob(".*"))


def repack(folder, manifest, out):
    from trt_lane.bundle.archive import file_entry, write_bundle

    files = {n: file_entry(folder / n) for n in manifest.files}
    manifest = dataclasses.replace(manifest, files=files)
    write_bundle(out, manifest, None, {n: folder / n for n in files})
    return out


def test_a_graph_that_no_runtime_takes_is_refused(bundles, store, tmp_path):
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with open_bundle(bundles[0]) as reader:
        manifest = reader.manifest
        reader.unpack(unpacked)
    (unpacked / "engine.onnx").write_bytes(b"not a network")
    with pytest.raises(TrtLaneError, match="cannot load"):
        install(repack(unpacked, manifest, tmp_path / "bad.tar"), store, threads=1)
    assert entries(store) == [] and store.state().current is None


PLENTY = MachineFacts("aarch64", "10.3.0", 87, 1 << 40, 1 << 40)
ORIN = BuildRecipe("jetson-orin", BuilderKind.TENSORRT, (87,), ("10.3", "12"), "aarch64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": "x86_64"}, "jetson-orin on aarch64, this is x86_64"),
        ({"builder_version": "10.2.0"}, r"tensorrt from 10\.3 .*here is 10\.2\.0"),
        ({"builder_version": "12.0"}, r"here is 12\.0"),
        ({"builder_version": None}, "not installed"),
        ({"compute_capability": 89}, r"jetson-orin \(sm_87\), here is sm_89"),
        ({"compute_capability": None}, "here is no GPU"),
        ({"disk_bytes": (100 << 20) - 1}, "100 MiB of disk space, 99 MiB are free"),
        ({"memory_bytes": (200 << 20) - 1}, "200 MiB of memory, 199 MiB are free"),
    ],
)
def test_a_machine_that_does_not_fit_is_refused(change, message):
    needs = Needs(100 << 20, 200 << 20)
    check_machine(ORIN, needs, PLENTY)
    check_machine(ORIN, needs, dataclasses.replace(PLENTY, disk_bytes=100 << 20))
    with pytest.raises(TrtLaneError, match=message):
        check_machine(ORIN, needs, dataclasses.replace(PLENTY, **change))


def test_the_current_engine_stays_where_a_bundle_does_not_fit(bundles, store, tmp_path):
    install(bundles[0], store, threads=1)
    before = store.state(), entries(store)
    for number, change in enumerate(
        [
            {"recipe": ORIN},
            {"recipe": BuildRecipe("cpu", BuilderKind.ONNXRUNTIME, version_range=("1.0", "1.1"))},
            {"needs": Needs(1 << 60, 0)},
            {"needs": Needs(0, 1 << 60)},
        ]
    ):
        bad = rewrite(bundles[1], tmp_path / f"{number}.tar", **change)
        with pytest.raises(TrtLaneError):
            install(bad, store, threads=1)
    assert (store.state(), entries(store)) == before


def test_facts_of_this_machine_are_plain_numbers(tmp_path):
    facts = read_facts(tmp_path, BuilderKind.ONNXRUNTIME)
    assert facts.builder_version and facts.disk_bytes > 0 and facts.memory_bytes > 0
    assert _available_memory("MemTotal: 8 kB\nMemAvailable:   5 kB\n") == 5 * 1024


def test_a_vehicle_with_keys_takes_only_what_they_signed(bundles, store, tmp_path):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from signing_keys import write_keys

    key, public = write_keys(tmp_path, "fleet")
    other, _ = write_keys(tmp_path, "other")
    (store.root / "keys").mkdir(parents=True)
    shutil.copy(public, store.root / "keys")
    with pytest.raises(TrtLaneError, match="not signed"):
        install(bundles[0], store, threads=1)
    strange = make_tiny_bundle(tmp_path / "strange", key=other)
    with pytest.raises(TrtLaneError, match="none of this vehicle's keys"):
        install(strange, store, threads=1)
    assert store.state().current is None
    signed = make_tiny_bundle(tmp_path / "signed", key=key)
    assert install(signed, store, threads=1).signer == "signed by fleet.pub"


@pytest.mark.parametrize("how", ["a file", "a link to nowhere", "another suffix"])
def test_keys_that_cannot_be_read_are_not_taken_for_none(bundles, store, how):
    store.root.mkdir()
    keys = store.root / "keys"
    if how == "a file":
        keys.write_text("not a folder")
    elif how == "a link to nowhere":
        keys.symlink_to(store.root / "nowhere")
    else:
        keys.mkdir()
        (keys / "fleet.pem").write_text("whatever it holds")
    with pytest.raises(TrtLaneError, match=r"(cannot read .*|fleet\.pem and no \*\.pub)"):
        install(bundles[0], store, threads=1)
    assert store.state().current is None


def test_an_empty_folder_of_keys_is_none(bundles, store):
    (store.root / "keys").mkdir(parents=True)
    assert install(bundles[0], store, threads=1).signer == "unsigned"


def test_a_folder_that_is_called_as_the_runtime_is_no_runtime(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    if importlib.util.find_spec("tensorrt").origin is not None:
        pytest.skip("TensorRT is installed")
    assert builder_version(BuilderKind.TENSORRT) is None


def test_two_installations_at_once_are_one_too_many(bundles, store):
    with store.locked(), pytest.raises(TrtLaneError, match="another installation"):
        install(bundles[0], store, threads=1)
    install(bundles[0], store, threads=1)


def test_what_a_dead_installation_left_is_swept_up(bundles, store):
    first = install(bundles[0], store, threads=1).name
    (store.root / ".staging.dead").mkdir()
    (store.root / ".staging.dead" / "engine.onnx").write_bytes(b"half")
    shutil.copytree(store.engines / first, store.engines / "000009-ufld-adopted")
    second = install(bundles[1], store, threads=1).name
    assert entries(store) == [first, second] and not list(store.root.glob(".staging*"))


def test_a_damaged_state_is_said_and_mended_by_the_next_installation(bundles, store):
    name = install(bundles[0], store, threads=1).name
    path = store.root / STATE
    path.write_bytes(path.read_bytes().replace(b"ufld", b"ulfd"))
    with pytest.raises(TrtLaneError, match=r"state\.json.*trt-lane install"):
        store.current()
    again = install(bundles[0], store, threads=1).name
    assert store.current() and again != name


@pytest.mark.parametrize("name", ["../x", "000001-../x", "x", 5])
def test_a_state_that_names_another_folder_is_refused(store, name):
    from trt_lane.sealed_json import seal

    store.engines.mkdir(parents=True)
    values = {"schema": 1, "current": name, "previous": None}
    (store.root / STATE).write_bytes(seal(values))
    with pytest.raises(TrtLaneError, match=r"state\.json"):
        store.current_folder()


def test_a_bundle_whose_files_change_between_the_looks_is_refused(bundles, store, tmp_path):
    """Digests are compared again while files are written."""
    path = tmp_path / "b.tar"
    shutil.copy(bundles[0], path)
    with open_bundle(path) as reader:
        reader.verify()
        data = path.read_bytes()
        at = data.index((bundles[0].parent / "cpu/engine.onnx").read_bytes()[:64])
        with open(path, "r+b") as file:
            file.seek(at + 5)
            file.write(b"x")
        (tmp_path / "out").mkdir()
        with pytest.raises(TrtLaneError, match=r"engine\.onnx is not the file"):
            reader.unpack(tmp_path / "out")


def test_a_root_that_cannot_be_written_is_one_clear_error(bundles, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["install", str(bundles[0]), "--root", str(tmp_path / "file" / "root")]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["install", str(tmp_path / "none.tar"), "--root", str(tmp_path / "r")]) == 2
    assert "cannot read the bundle" in capsys.readouterr().err


def test_the_command_says_what_was_installed(bundles, tmp_path, capsys):
    words = ["install", str(bundles[0]), "--root", str(tmp_path / "root"), "--threads", "1"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "golden frames pass" in shown and "unsigned" in shown and "is current in" in shown
    assert "previous   none\n" in shown  # and no advice to go back to nothing


@pytest.mark.slow
def test_compiled_decoders_are_made_of_the_bundles_sources(bundles, store, tmp_path, monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    from engines.bundle import Sources, _plugins

    made = bundles[0].parent
    plugins = Path(__file__).resolve().parents[2] / "plugins"
    sources = Sources(made / "qdq.onnx", made / "float.onnx", None, plugin_sources=plugins)
    found = _plugins(sources)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with open_bundle(bundles[0]) as reader:
        manifest = reader.manifest
        reader.unpack(unpacked)
    for name, source in found.items():
        (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).write_bytes(source if isinstance(source, bytes) else source.read_bytes())
    entry = FileEntry(0, "0" * 64)
    manifest = dataclasses.replace(
        manifest, files={**manifest.files, **dict.fromkeys(found, entry)}
    )
    bundle = repack(unpacked, manifest, tmp_path / "b.tar")
    monkeypatch.chdir(tmp_path)
    done = install(bundle, Store(Path("root")), threads=1)
    assert store.state().current == done.name
    assert done.golden.passed and done.artifact.info["decoders"].startswith("compiled here")
    with LaneDetector.load(store.current_folder(), threads=1, fit="crop") as detector:
        assert detector.decodes_compiled
        detector.detect(cv2.imread(str(store.current_folder() / "golden" / "0.png")))
    assert os.access(store.current().plugin_path, os.R_OK)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None or platform.machine() != "x86_64",
    reason="tensorrt_rtx is not installed: pip install tensorrt-rtx-cu13 (x86-64)",
)
def test_nvidias_builder_builds_of_an_unpacked_bundle(tmp_path):
    """The vehicle's way to an engine, by TensorRT-RTX, which builds without a GPU."""
    bundle = make_tiny_bundle(tmp_path / "bundle", target="rtx")
    folder, seen = tmp_path / "unpacked", []
    folder.mkdir()
    with open_bundle(bundle) as reader:
        manifest = reader.manifest
        reader.verify()
        reader.unpack(folder)
    version = builder_version(BuilderKind.TENSORRT_RTX)
    artifact = build_engine(
        folder, manifest, version, tmp_path / "timing", lambda *state: seen.append(state)
    )
    assert artifact.runtime == "tensorrt_rtx" and artifact.engine == "engine.rtx"
    assert artifact.compute_capabilities == (86, 89, 120) and artifact.built_with == version
    assert artifact.engine_path.stat().st_size > 10_000 and not (folder / "job.json").exists()
    assert EngineArtifact.load(folder).batch == 1
    assert seen


def test_a_bundle_for_another_board_is_refused_here(tmp_path, store):
    if platform.machine() != "x86_64":
        pytest.skip("this machine might be that board")
    bundle = make_tiny_bundle(tmp_path / "bundle", target="jetson-orin")
    with pytest.raises(TrtLaneError, match="jetson-orin on aarch64, this is x86_64"):
        install(bundle, store)
    assert entries(store) == []
