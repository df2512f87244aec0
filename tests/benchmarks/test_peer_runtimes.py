from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from tiny_artifact import make_artifact, row_anchor_pair

from benchmarks.__main__ import main
from benchmarks.bench_report import BenchmarkReport
from benchmarks.peer_networks import PEERS, Subject
from benchmarks.peer_rows import LOOPS, peer_rows, peer_text
from benchmarks.peer_runtimes import OURS, check_weights, ratio, run_peers
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError

RUNTIMES = ["ONNX Runtime float", "ONNX Runtime INT8", "OpenVINO float"]


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    artifact = make_artifact(folder / "artifact")
    onnx.save(row_anchor_pair().float_model, folder / "float.onnx")
    frames = np.random.default_rng(0).normal(0, 1, (4, 3, *artifact.image.input_hw))
    return Subject(artifact, folder / "float.onnx", None, 1, frames.astype(np.float32))


@pytest.fixture(scope="module")
def roads():
    return open_dataset("synthetic:test:3:410x148")


@pytest.fixture(scope="module")
def found(subject, roads):
    return run_peers(subject, [roads.frame(i) for i in range(3)], 3, RUNTIMES)


def test_every_network_is_timed_in_every_part(found):
    wanted = {OURS, "ONNX Runtime float", "ONNX Runtime INT8"}
    assert wanted <= found.times.keys()
    assert found.times[OURS].loops is None  # ours is the shipped detector, end to end
    for name, times in found.times.items():
        parts = (times.before, times.network, times.decoder)
        for part in parts if name == OURS else (*parts, times.loops):
            assert part.shape == (3, 3) and (part > 0).all()


def test_a_peer_is_measured_or_says_what_to_install(found):
    if find_spec("openvino") is None:
        assert "pip install" in found.missing["OpenVINO float"]
    else:
        assert "OpenVINO float" in found.times


def test_rows_hold_both_post_processings_and_the_score(found, roads):
    rows = peer_rows(found, roads.metric, [roads.label(i) for i in range(3)])
    names = [row["name"] for row in rows]
    assert names[:3] == [OURS, "ONNX Runtime float", "ONNX Runtime float" + LOOPS]
    first = rows[0]
    assert first["ratio"] == first["ratio_low"] == 1.0
    by_name = {row["name"]: row for row in rows}
    floats = by_name["ONNX Runtime float"]
    assert floats["agreement_f1"] == 1.0 and 0 <= floats["f1"] <= 1
    assert floats["ratio_low"] <= floats["ratio"] <= floats["ratio_high"]
    assert "ONNX Runtime INT8" + LOOPS in peer_text(rows)


def test_ratio_is_exact_where_one_takes_a_multiple():
    ours = np.random.default_rng(0).uniform(1, 2, (8, 5))
    assert ratio(ours, 3 * ours) == pytest.approx((3, 3, 3))


@pytest.mark.parametrize(
    ("heads", "same"),
    [
        ({"logits": np.ones(9) + 1e-5}, True),
        ({"logits": np.ones(9) + 0.1}, False),
        ({"logits": np.ones((3, 4))}, False),
        ({"other": np.ones(9)}, False),
    ],
)
def test_another_checkpoint_than_the_graphs_is_refused(heads, same):
    networks = {
        "PyTorch eager": lambda image: heads,
        "ONNX Runtime float": lambda image: {"logits": np.ones(9)},
    }
    if same:
        check_weights(networks, np.zeros(1))
        return
    with pytest.raises(TrtLaneError, match="the checkpoint changed since"):
        check_weights(networks, np.zeros(1))


def test_unknown_peers_are_refused(subject, roads):
    with pytest.raises(TrtLaneError, match="no peer 'TVM'; known peers: PyTorch eager"):
        run_peers(subject, [roads.frame(0)], 2, ["TVM"])
    assert set(RUNTIMES) < set(PEERS)


def test_command_puts_the_rows_into_a_report(subject, tmp_path, capsys):
    from made_reports import made_latency, made_report

    report = made_report(made_latency(0))
    from dataclasses import replace

    own = replace(report, digests={"engine": subject.artifact.digests["engine"]})
    own.save(tmp_path / "report.json")
    words = [str(subject.artifact.folder), "--float-onnx", str(subject.float_onnx)]
    data = ["--data", "synthetic:test:2:410x148", "--frames", "2"]
    calibration = ["--calibration-data", "synthetic:calibration:2:410x148"]
    few = ["--rounds", "2", "--peers", "ONNX Runtime float", "--report", str(tmp_path)]
    assert main(["peers-runtime", *words, *data, *calibration, *few]) == 0
    assert "ONNX Runtime float" in capsys.readouterr().out
    rows = BenchmarkReport.load(tmp_path).peers
    assert [row["name"] for row in rows][1] == "ONNX Runtime float"
    assert "ONNX Runtime float" in (tmp_path / "report.html").read_text()
    report.save(tmp_path / "report.json")
    assert main(["peers-runtime", *words, *data, *calibration, *few]) == 2
    assert "is of another engine" in capsys.readouterr().err
