from dataclasses import replace

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.cold_start import cold_start
from benchmarks.runtime import STAGES, Comparison, Latencies, as_float, compare
from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json


def frames(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (590, 1640, 3), np.uint8) for _ in range(count)]


def latencies(scale):
    ms = scale * np.random.default_rng(3).uniform(9, 11, 50)
    return Latencies(dict.fromkeys(STAGES, ms))


def test_every_frame_is_timed_in_every_stage_for_both(artifact, float_onnx):
    found = compare(artifact, float_onnx, frames(4), threads=1)
    for side in (found.float_graph, found.int8_engine):
        assert list(side.ms) == list(STAGES)
        assert all(values.shape == (4,) and (values > 0).all() for values in side.ms.values())
        parts = sum(side.ms[stage] for stage in STAGES[:3])
        assert parts == pytest.approx(side.ms["total"])


def test_ratio_of_paired_times_is_exact_when_one_is_a_multiple_of_the_other():
    value, low, high = Comparison(1, latencies(2.0), latencies(1.0)).ratio("network")
    assert (value, low, high) == pytest.approx((0.5, 0.5, 0.5))


def test_no_frame_is_an_error(artifact, float_onnx):
    with pytest.raises(TrtLaneError, match="no frame"):
        compare(artifact, float_onnx, [], threads=1)


def test_engine_of_another_runtime_is_refused(artifact, float_onnx):
    for_gpu = replace(artifact, runtime="tensorrt")
    with pytest.raises(TrtLaneError, match="TARGET=cpu"):
        as_float(for_gpu, float_onnx)


def test_new_process_has_no_torch_and_knows_its_memory(artifact):
    found = cold_start(artifact.folder, 1)
    assert not found["torch"]
    assert 10 < found["resident_mb"] <= found["peak_mb"] < 1000
    assert 0 <= found["import_s"] <= found["detector_import_s"]


def test_command_prints_and_writes_the_same_figures(artifact, float_onnx, tmp_path, capsys):
    words = ["runtime", str(artifact.folder), "--float-onnx", str(float_onnx)]
    out = tmp_path / "runtime.json"
    data = ["--data", "synthetic:test:2:410x148"]
    assert main([*words, *data, "--threads", "1", "--out", str(out)]) == 0
    report = read_json(out)
    (found,) = report["comparisons"]
    ratio = found["ratio"]["network"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert f"{ratio['value']:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--frames", "0"], "--frames is 0"),
        (["--threads", "0"], "--threads is 0"),
        (["--float-onnx", "nowhere.onnx"], "no float ONNX nowhere.onnx"),
    ],
)
def test_mistakes_are_one_line(artifact, float_onnx, capsys, extra, message):
    words = ["runtime", str(artifact.folder), "--float-onnx", str(float_onnx), *extra]
    assert main(words) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
