import errno
import json
import os

import numpy as np
import pytest

from trt_lane import files
from trt_lane.errors import TrtLaneError
from trt_lane.files import (
    atomic_write,
    check_writable,
    read_json,
    sha256_file,
    write_bytes,
    write_json,
)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "result.bin"
    path.write_bytes(b"old")
    return path


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "deep" / "result.bin"
    with atomic_write(path) as file:
        file.write(b"whole")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["result.bin"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit, TrtLaneError])
def test_after_any_exception_the_old_file_is_there_and_nothing_else(old, kind):
    with pytest.raises(kind), atomic_write(old) as file:
        file.write(b"half")
        raise kind("stop")
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_is_an_error_to_mend_and_the_old_file_stays(old, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step != "write":
        monkeypatch.setattr(files.os, step, full)
    told = pytest.raises(TrtLaneError, match=r"No space left on device.*free space")
    with told, atomic_write(old) as file:
        file.write(b"half")
        if step == "write":
            full()
    monkeypatch.undo()
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_disk_that_fills_up_at_the_last_flush_leaves_nothing(old, monkeypatch):
    real = os.fdopen

    def onto_full_disk(handle, mode):
        os.dup2(os.open("/dev/full", os.O_WRONLY), handle)
        return real(handle, mode)

    monkeypatch.setattr(files.os, "fdopen", onto_full_disk)
    with pytest.raises(TrtLaneError, match="No space left"):
        write_bytes(old, b"x" * 100)
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == [old.name]


def test_a_path_that_cannot_be_written_is_an_error_to_mend(tmp_path, old):
    with pytest.raises(TrtLaneError, match="cannot write"):
        write_bytes(tmp_path, b"a folder is in the way")
    with pytest.raises(TrtLaneError, match="cannot write"):
        write_bytes(old / "below a file", b"")
    assert os.listdir(tmp_path) == [old.name]


def test_others_may_read_the_result(tmp_path):
    write_bytes(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_json_comes_back_and_nan_is_refused(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, None, "ä"]})
    assert read_json(path) == {"a": [1, 2.5, None, "ä"]}
    for odd in (np.nan, float("inf")):
        with pytest.raises(ValueError):
            write_json(path, odd)
    assert json.loads(path.read_text())["a"][0] == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{'a': 1}", b"\xff\xfe\x00", b"[" * 200_000, b'{"a": 1} x']
)
def test_a_damaged_json_file_is_an_error_to_mend(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(TrtLaneError, match="as JSON"):
        read_json(path)


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(TrtLaneError, match=r"no file .*nothing\.json"):
        read_json(tmp_path / "nothing.json")
    with pytest.raises(TrtLaneError, match="as JSON"):
        read_json(tmp_path)


def test_a_digest_is_of_the_whole_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 1_000_000)
    whole = sha256_file(path)
    path.write_bytes(b"abc" * 999_999 + b"abd")
    assert sha256_file(path) != whole
    path.write_bytes(b"")
    assert sha256_file(path).startswith("e3b0c44298fc1c14")


def test_a_place_that_cannot_be_written_is_told_before_the_work(old):
    check_writable(old)
    check_writable(old.parent / "new" / "result.bin")
    assert old.read_bytes() == b"old" and os.listdir(old.parent / "new") == []
    with pytest.raises(TrtLaneError, match=r"cannot write .*: it is a folder"):
        check_writable(old.parent)
    with pytest.raises(TrtLaneError, match=r"result\.bin/scales\.npz: .* choose another folder"):
        check_writable(old / "scales.npz")
