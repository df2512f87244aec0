import ast
from pathlib import Path

import numpy as np
import pytest

import trt_lane.runtime
from trt_lane.lanes import LaneSet
from trt_lane.lanes_json import lanes_from_plain
from trt_lane.runtime.result import Fault, FrameResult

MS = 1_000_000
LANES = LaneSet(np.float32([[[1, 2], [3, 4]]]), [0.5], (59, 164))


def result(fault=Fault.NONE, lanes=LANES, captured_ms=1000, finished_ms=1010, max_age_ms=100):
    return FrameResult(0, 7, captured_ms * MS, finished_ms * MS, lanes, fault, max_age_ms)


def test_a_result_loses_its_lanes_when_it_is_too_old():
    fresh = result()
    assert len(fresh.at(1100 * MS).lanes) == 1 and fresh.at(1100 * MS).valid
    stale = fresh.at(1100 * MS + 1)
    assert not stale.valid and stale.fault is Fault.STALE and len(stale.lanes) == 0
    assert stale.lanes.frame_hw == (59, 164) and stale.sequence == 7


def test_a_result_of_the_future_is_not_fresh():
    assert result().at(999 * MS).fault is Fault.STALE


def test_a_fault_stays_what_it_is_when_it_grows_old():
    none = LaneSet.from_lanes([], (59, 164))
    assert result(Fault.NOT_FINITE, none).at(10**15).fault is Fault.NOT_FINITE


@pytest.mark.parametrize("fault", [f for f in Fault if f is not Fault.NONE])
def test_a_result_with_a_fault_cannot_have_lanes(fault):
    with pytest.raises(ValueError, match="has lanes"):
        result(fault)


def test_plain_values_are_those_of_the_moment():
    values = result().to_plain(1050 * MS)
    assert (values["valid"], values["age_ms"], values["latency_ms"]) == (True, 50, 10)
    np.testing.assert_array_equal(lanes_from_plain(values).points, LANES.points)
    late = result().to_plain(2000 * MS)
    assert (late["valid"], late["fault"], late["lanes"]) == (False, "stale", [])


def test_the_runtime_reads_no_clock_that_can_jump():
    wall = {"time", "ctime", "localtime", "gmtime", "strftime", "now", "utcnow", "today"}
    for path in Path(trt_lane.runtime.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                assert not (owner in ("time", "datetime", "date") and node.func.attr in wall), path
