"""A report that was edited, cut short or damaged is one line, wherever it is broken."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from made_reports import made_culane, made_latency, made_report

from benchmarks.__main__ import main
from benchmarks.bench_report import BenchmarkReport
from benchmarks.compare import compare
from benchmarks.html import page
from benchmarks.report_shape import ShapeError, check
from trt_lane.errors import TrtLaneError

MISSING = object()
WRONG = [MISSING, None, "x", "\ud800", float("nan"), -1, [], {"a": [1]}, 10**400]


@pytest.fixture(scope="module")
def values():
    """A small report with every part in it, as parsed JSON."""
    report = made_report(made_latency(0, starts=4, rounds=1, per_round=2), made_culane(2))
    alike = {"agreement": np.tile([3, 0, 0], (2, 1)), "distortion_px": np.zeros(2)}
    engine = replace(report.accuracy.forms["engine"], **alike)
    forms = {"engine": engine, "float": engine}
    start = replace(report.latency.starts[0], device_ms=[[1.0, 2.0, 0.1]])
    latency = replace(report.latency, starts=(start, *report.latency.starts[1:]))
    before, during, after = report.environment.states
    facts = {"clocks_mhz": {"cpu": 2000.0}, "temperatures_c": {"gpu": 50.0}, "throttle": ()}
    states = (before, replace(during, power_w=3.0, load_average=0.1, **facts), after)
    layer = {
        "name": "c", "kind": "Conv", "inputs": ["INT8"], "outputs": ["INT8"], "onnx_nodes": ["c"],
        "macs": 9, "activation_macs": 0, "reason": "", "ms": 0.1,
    }  # fmt: skip
    times = {"p50_ms": 9.0, "p99_ms": None, "max_ms": 20.0}
    whole = replace(
        report,
        latency=latency,
        accuracy=replace(report.accuracy, forms=forms),
        environment=replace(report.environment, states=states),
        bytes={"engine": 5_000_000, "float_onnx": 20_000_000},
        conditions={"threads": 1, "data": "made", "frames_sha256": "1"},
        scenarios=(
            *report.scenarios,
            {"scenario": "camera 30 Hz", "frames": 9, "late_share": 0.1, "dropped": 0, **times},
            {"scenario": "2 cameras", "queries": 3, "hz": 9.0, **times},
            {"scenario": "offline", "workers": 1, "frames_per_s": 9.0},
        ),
        layers=(layer,),
        pictures=({"name": "a", "caption": "b", "jpeg": "aGk="},),
        peers=(
            {"name": "P", "p50_ms": 9.0, "p99_ms": None, "ratio": 2.0, "f1": 0.9},
            {"name": "Q", "missing": "not installed"},
        ),
    )
    values = json.loads(json.dumps(whole.to_dict()))
    del values["derived"]
    return values


def places(value, path=()):
    """Every place in parsed JSON, of lists the first two entries."""
    yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list):
        for number in range(min(len(value), 2)):
            yield from places(value[number], (*path, number))


def changed(values, path, value):
    made = copy.deepcopy(values)
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return made


def test_whatever_is_changed_a_report_is_refused_or_can_be_shown_and_compared(values, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(values))
    whole = BenchmarkReport.load(path)
    refused, accepted = 0, 0
    for place in [p for p in places(values) if p]:
        for wrong in WRONG:
            path.write_text(json.dumps(changed(values, place, wrong)))
            try:
                report = BenchmarkReport.load(path)
            except TrtLaneError as error:
                assert "\n" not in str(error)
                refused += 1
                continue
            accepted += 1
            report.save(tmp_path / "again.json")
            page(report).encode()
            if report.model == whole.model and accepted % 20 == 0:
                compare(whole, report)
    assert refused > 3 * accepted > 0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 2, "has schema 2, expected 1"),
        (("schema",), True, "has schema True"),
        (("kind",), "x", "is no report"),
        (("latency",), MISSING, "latency: expected a value"),
        (("latency", "starts", 0, "ms", 0, 3), float("nan"), r"starts\[0\].ms\[0\]\[3\]: expected"),
        (("latency", "starts", 0, "ms", 0, 3), -3.0, "below 0"),
        (("latency", "starts", 0, "canary_ms"), [], "time of the fixed work"),
        (("latency", "starts", 0, "round_of"), [7, 7], "of no round"),
        (("latency", "starts"), [], "at least one start"),
        (("latency", "stages", 0), "network", "expected each once"),
        (("environment", "states"), [], "before and after"),
        (("environment", "facts", "cpu"), ["a"], "environment.facts.cpu"),
        (("accuracy", "frames"), ["only one"], "one row per frame"),
        (("accuracy", "metric"), "tusimple", "no counts by it"),
        (("accuracy", "forms", "engine", "culane", 0, 2), 99, "more lanes are found"),
        (("accuracy", "forms", "engine", "culane", 0), [1, 2], "damaged"),
        (("scenarios", 1, "late_share"), MISSING, r"scenarios\[1\]: expected"),
        (("accuracy", "forms", "engine", "agreement"), MISSING, "one is there without the other"),
        (("accuracy", "forms", "engine"), {"culane": [[3] * 12] * 2}, "the engine has none"),
        (("conditions", "data"), "\ud800", "conditions.data: expected text"),
        (("digests", "\ud800"), "1", "a name in digests: expected text"),
    ],
)
def test_a_damaged_place_is_named(values, tmp_path, path, value, message):
    (tmp_path / "report.json").write_text(json.dumps(changed(values, path, value)))
    with pytest.raises(TrtLaneError, match=message):
        BenchmarkReport.load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_report_that_was_cut_off_is_one_line(values, tmp_path, capsys, share):
    text = json.dumps(values)
    (tmp_path / "report.json").write_text(text[: int(share * len(text))])
    for words in (["compare", str(tmp_path), str(tmp_path)], ["report", str(tmp_path)]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "report.json" in error and error.count("\n") == 1


def test_an_empty_folder_is_one_line(tmp_path, capsys):
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "no file" in capsys.readouterr().err


def test_numbers_that_are_none_are_not_taken_for_any():
    for shape, wrong in ((int, 1.5), (int, True), (float, "1"), (str, 1), (object, [1])):
        with pytest.raises(ShapeError):
            check(wrong, shape, "it")
    for shape, right in ((int, 2), (float, 2), (float, 2.5), (object, None), (object, True)):
        check(right, shape)
