"""A corrupted bundle or artifact is refused, whatever it is that is wrong with it."""

import shutil
from collections import Counter

import cv2
import numpy as np
import pytest
from corruptions import corruptions
from tiny_bundle import make_tiny_bundle

from trt_lane.artifact import SIDECAR, EngineArtifact
from trt_lane.detector import LaneDetector
from trt_lane.errors import TrtLaneError
from trt_lane.installing.install import install, prove
from trt_lane.installing.store import Store

COUNTS = [330, pytest.param(10_000, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def store(bundle, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("root"))
    install(bundle, store, threads=1)
    return store


@pytest.mark.parametrize("count", COUNTS)
def test_every_corrupted_bundle_is_refused_and_the_current_engine_runs(
    bundle, store, tmp_path, count
):
    before, kinds = store.state(), Counter()
    listing = sorted(p.name for p in store.root.iterdir())
    path = tmp_path / "bad.tar"
    for number, (kind, data) in enumerate(corruptions(bundle.read_bytes(), count)):
        path.write_bytes(data)
        with pytest.raises(TrtLaneError):
            install(path, store, threads=1)
        kinds[kind] += 1
        if number % 100 == 0:
            assert store.state() == before
            assert prove(store.current_folder(), threads=1).passed
    assert store.state() == before and store.current()
    assert prove(store.current_folder(), threads=1).passed
    assert sorted(p.name for p in store.root.iterdir()) == listing
    assert sum(kinds.values()) == count and min(kinds.values()) > 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.tar"]


def test_every_corrupted_signed_bundle_is_refused_where_its_key_is_asked_for(tmp_path):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from signing_keys import write_keys

    key, public = write_keys(tmp_path, "fleet")
    signed = make_tiny_bundle(tmp_path / "bundle", key=key)
    store, path = Store(tmp_path / "root"), tmp_path / "bad.tar"
    assert install(signed, store, keys=[public], threads=1).signer == "signed by fleet.pub"
    before = store.state()
    for _, data in corruptions(signed.read_bytes(), 220, seed=1):
        path.write_bytes(data)
        with pytest.raises(TrtLaneError):
            install(path, store, keys=[public], threads=1)
    assert store.state() == before


@pytest.mark.parametrize("count", COUNTS)
def test_every_corrupted_artifact_is_refused(store, tmp_path, count):
    folder = tmp_path / "engine"
    shutil.copytree(store.current_folder(), folder)
    rng = np.random.default_rng(1)
    engine = EngineArtifact.load(folder).engine
    for number in range(count):
        name = (engine, SIDECAR)[number % 2]
        whole = (folder / name).read_bytes()
        at = int(rng.integers(len(whole)))
        bad = {
            0: whole[:at],
            1: whole + whole[:1],
            2: whole[:at] + whole[at + 1 :],
        }.get(int(rng.integers(6)), whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        (folder / name).write_bytes(bad)
        with pytest.raises(TrtLaneError):
            EngineArtifact.load(folder)
        (folder / name).write_bytes(whole)
    with LaneDetector.load(folder, threads=1, fit="crop") as detector:
        detector.detect(cv2.imread(str(folder / "golden" / "0.png")))
