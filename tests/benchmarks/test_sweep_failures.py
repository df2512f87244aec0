"""What nobody foresaw fails its own cell of a sweep, and none beside it."""

import json
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import onnxruntime
import pytest

from benchmarks.__main__ import main
from benchmarks.sweep import driver
from benchmarks.sweep.pools import Failure, LocalPool, RayPool

DATA = "synthetic:test:2:410x148@synthetic:calibration:2:410x148"
PLAIN = {3: "MemoryError", 4: "ValueError: first line", 5: "TwoWordsError: no way"}


class TwoWordsError(Exception):
    """One that cannot be read back from where it was raised: it is made of two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def raises(number: int) -> int:
    """Square, except for what goes wrong below Python, without words, and without a way back."""
    if number == 1:
        cv2.resize(np.zeros((0, 0)), (1, 1))
    if number == 2:
        onnxruntime.InferenceSession(b"no graph")
    if number == 3:
        raise MemoryError
    if number == 4:
        raise ValueError("\n first line \nsecond line")
    if number == 5:
        raise TwoWordsError("no", "way")
    return number * number


def check(found):
    assert {found.pop(i) for i in (0, 6)} == {0, 36}
    reasons = {index: value.reason for index, value in found.items() if isinstance(value, Failure)}
    assert "resize" in reasons[1] and reasons.pop(1).startswith("error: ")
    assert reasons.pop(2).startswith("InvalidProtobuf: ")
    assert reasons == PLAIN


def test_every_exception_of_a_call_is_its_failure_in_one_line():
    check(dict(LocalPool(2).run(raises, [(i,) for i in range(7)])))


def test_an_exception_on_ray_is_a_failure_too():
    if find_spec("ray") is None:
        pytest.skip("ray is not installed; make test-all does it")
    with RayPool("local:2") as pool:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        check(dict(pool.run(raises, [(i,) for i in range(7)])))


def unforeseen(commands):
    """In the place of make_engine."""
    raise RuntimeError(f"{len(commands)} commands\nand more")


def test_a_sweep_of_unforeseen_exceptions_writes_its_report_and_exits_with_1(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "make_engine", unforeseen)
    out = tmp_path / "sweep"
    places = ["--work", str(tmp_path / "work"), "--out", str(out), "--jobs", "1"]
    assert main(["sweep", f"ufld@{DATA}", "int8_minmax", *places]) == 1
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [(row["method"], row["failed"]) for row in rows] == [
        ("float", "RuntimeError: 1 commands"),
        ("int8_minmax", "RuntimeError: 3 commands"),
    ]
