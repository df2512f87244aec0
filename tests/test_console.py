import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from trt_lane.console import INTERRUPTED, guarded
from trt_lane.errors import CheckFailedError, TrtLaneError


@pytest.mark.parametrize(("kind", "status"), [(TrtLaneError, 2), (CheckFailedError, 1)])
def test_an_error_to_mend_is_one_line_and_a_status(capsys, kind, status):
    def fail():
        raise kind("no file\n  'a';\n\nrun: make")

    assert guarded("prog", fail) == status
    assert capsys.readouterr() == ("", "prog: error: no file 'a'; run: make\n")


def test_success_passes_its_status_on(capsys):
    assert guarded("prog", lambda: 0) == 0
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_is_said_without_a_traceback(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert guarded("prog", interrupted) == INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        guarded("prog", lambda: 1 // 0)


def test_a_missing_file_that_no_check_foresaw_is_not_hidden():
    with pytest.raises(FileNotFoundError):
        guarded("prog", lambda: len(os.listdir("/no/such/folder")))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_machine_refuses_is_one_line(capsys, number):
    def refused():
        raise OSError(number, os.strerror(number), "engine.plan")

    assert guarded("prog", refused) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"prog: error: {os.strerror(number)} (engine.plan); ")
    assert line.count("\n") == 1


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupt"), (signal.SIGTERM, "t")])
def test_a_signal_leaves_nothing_half_written(tmp_path, number, word):
    code = (
        "import sys, time; from trt_lane.console import guarded\n"
        "from trt_lane.files import atomic_write\n"
        "def main():\n    with atomic_write('out') as file:\n        file.write(b'half')\n"
        "        print('writing', flush=True); time.sleep(60)\n"
        "sys.exit(guarded('prog', main))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert f"prog: {word}" in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []


def test_a_reader_that_leaves_is_no_error():
    code = (
        "import sys; from trt_lane.console import guarded\n"
        "def main():\n    for i in range(100000): print(i)\n    return 0\n"
        "sys.exit(guarded('prog', main))"
    )
    command = f'{sys.executable} -c "$CODE" | head -1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command],
        env={"CODE": code, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n0\n"
    assert done.stderr == ""


def test_too_little_memory_is_one_line(capsys):
    assert guarded("prog", lambda: np.empty(1 << 60, np.uint8).size) == 2
    err = capsys.readouterr().err
    assert (
        err.startswith("prog: error: not enough memory (Unable to allocate")
        and err.count("\n") == 1
    )
