import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from made_reports import made_latency, made_report
from onnx import TensorProto, helper, numpy_helper

from benchmarks.__main__ import main
from benchmarks.roofline.bound import bounds, bytes_moved
from benchmarks.roofline.device import Device, find_devices, list_devices, read_device
from benchmarks.roofline.work import layer_work
from engines.macs import count_macs
from trt_lane.errors import TrtLaneError

# 1 TOPS INT8, half of it FP16, 1 GB/s: a million of anything is a round figure.
TOY = Device("toy", "a toy", 1.0, 0.5, 1.0, 1.0, "made up")


def graph(nodes, weights, shape, outputs):
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 19)],
    )


@pytest.fixture(scope="module")
def chain():
    """Conv 64 -> 32, ReLU, Conv 32 -> 32, product with itself transposed."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["p"], ["q"], name="relu"),
        helper.make_node("Conv", ["q", "b"], ["r"], name="second"),
        helper.make_node("MatMul", ["r", "r"], ["y"], name="attention"),
    ]
    return graph(nodes, {"a": (32, 64, 3, 3), "b": (32, 32, 1, 1)}, [1, 64, 10, 10], ["y"])


def test_work_is_counted_by_hand(chain):
    first, second, attention = layer_work(chain)
    assert (first.macs, first.weights) == (100 * 32 * 64 * 9, 32 * 64 * 9)
    assert (first.read, first.written) == (6400, 3200)
    assert (first.channels_in, first.channels_out) == (64, 32)
    assert first.int8 and first.int8_result  # only a convolution reads it, behind a ReLU
    assert second.int8 and not second.int8_result  # attention reads it
    assert not attention.int8 and attention.weights == 0
    assert attention.macs == 32 * 10 * 10 * 10


def test_macs_are_those_of_the_audit(chain):
    assert sum(w.macs for w in layer_work(chain)) == sum(n.macs for n in count_macs(chain))


def test_bytes_halve_where_everything_around_is_int8(chain):
    first, second, attention = layer_work(chain)
    assert bytes_moved(first, int8=False) == 2 * (18432 + 6400 + 3200)
    assert bytes_moved(first, int8=True) == 18432 + 6400 + 3200
    assert bytes_moved(second, int8=True) == 1024 + 3200 + 2 * 3200
    assert bytes_moved(attention, int8=True) == bytes_moved(attention, int8=False)


def test_bound_is_the_longer_of_multiplying_and_moving(chain):
    first, _, attention = bounds(layer_work(chain), TOY).layers
    # 1,843,200 MACs are 3.6864 µs at 1 TOPS; 28,032 bytes are 28.032 µs at 1 GB/s
    assert first.int8_ms == pytest.approx(0.028032)
    assert first.fp16_ms == pytest.approx(2 * 0.028032)
    assert first.limit == "memory" and first.gain == pytest.approx(2)
    fast = Device("fast", "", 1.0, 0.5, 1e6, 1.0, "made up")
    compute = bounds(layer_work(chain), fast).layers[0]
    assert compute.limit == "compute" and compute.int8_ms == pytest.approx(0.0036864)
    assert attention.gain == 1.0 and "two activations" in attention.reason


def test_a_warm_cache_keeps_what_fits_and_only_multiplying_is_left(chain):
    found = bounds(layer_work(chain), TOY)
    compute = sum(2e-9 * w.macs / (1.0 if w.int8 else 0.5) for w in layer_work(chain))
    assert found.cached_ms == pytest.approx(compute)
    small = Device("small", "", 1.0, 0.5, 1.0, 1e-6, "made up")
    assert bounds(layer_work(chain), small).cached_ms == pytest.approx(found.int8_ms)


@pytest.mark.parametrize(
    ("weight", "channels", "groups", "words"),
    [
        ((64, 3, 3, 3), 3, 1, "too few channels: 3 of a pack of 32"),
        ((64, 64, 3, 3), 64, 1, ""),
        ((64, 1, 3, 3), 64, 64, "too few channels: 1 of a pack of 32"),
    ],
)
def test_where_int8_cannot_help_is_told(weight, channels, groups, words):
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", group=groups)
    model = graph([node], {"w": weight}, [1, channels, 400, 400], ["y"])
    fast = Device("fast", "", 1.0, 0.5, 1e9, 1.0, "made up")
    (layer,) = bounds(layer_work(model), fast).layers
    assert layer.reason.startswith(words) and bool(layer.reason) == bool(words)


def test_memory_bound_with_a_float_result_is_told():
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c")
    model = graph([node], {"w": (256, 8, 1, 1)}, [1, 8, 64, 64], ["y"])
    (layer,) = bounds(layer_work(model), TOY).layers
    assert layer.reason.startswith("memory-bound")


def test_a_quantised_graph_says_itself_what_is_int8():
    from tiny_artifact import row_anchor_pair

    found = row_anchor_pair()
    given = {w.node: w.int8 for w in layer_work(found.qdq)}
    audited = {n.node: n.quantised for n in count_macs(found.qdq)}
    assert given == audited
    assert any(given.values())


def test_every_device_has_peaks_in_order_and_a_source():
    devices = list_devices()
    wanted = {"orin-nano", "orin-nx", "agx-orin", "thor", "drive-orin", "rtx3060", "rtx4090"}
    assert wanted | {"rtx5090", "h100"} == {d.name for d in devices}
    for device in devices:
        assert device.int8_tops == pytest.approx(2 * device.fp16_tflops, rel=0.01)
        assert "NVIDIA" in device.source


def test_a_target_means_all_devices_that_it_may_be():
    assert [d.name for d in find_devices("jetson-orin")] == ["agx-orin", "orin-nano", "orin-nx"]
    assert [d.name for d in find_devices("rtx4090")] == ["rtx4090"]
    assert len(find_devices("all")) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int8_tops = 1", "missing"),
        ('int8_tops = 1\nfp16_tflops = 1\nbandwidth_gb_s = 0\nl2_mb = 1\nsource = "s"\n'
         'description = ""', "bandwidth_gb_s is 0"),
        ("tops = 1", "unknown key 'tops'"),
        ("[", "cannot read the device"),
    ],
)  # fmt: skip
def test_a_wrong_device_file_is_one_line(tmp_path, text, message):
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(TrtLaneError, match=message):
        read_device(tmp_path / "d.toml")


def test_command_prints_bounds_and_the_share_reached(tmp_path, chain, capsys):
    onnx.save(chain, tmp_path / "g.onnx")
    on_device = replace(made_report(made_latency(0)), target="jetson-orin")
    on_device.save(tmp_path / "report.json")
    out = tmp_path / "roofline.json"
    words = ["roofline", str(tmp_path / "g.onnx"), "--target", "agx-orin"]
    assert main([*words, "--report", str(tmp_path / "report.json"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "first" in printed and "of the INT8 limit reached" in printed
    (found,) = json.loads(out.read_text())["devices"]
    assert found["reached"] == pytest.approx(found["int8_ms"] / found["network_ms"])
    assert found["int8_ms"] == pytest.approx(sum(layer["int8_ms"] for layer in found["layers"]))


def test_a_report_of_another_device_or_model_tells_nothing(tmp_path, chain, float_onnx, capsys):
    onnx.save(chain, tmp_path / "g.onnx")
    report = made_report(made_latency(0))
    report.save(tmp_path / "report.json")
    with_report = ["--target", "agx-orin", "--report", str(tmp_path)]
    assert main(["roofline", str(tmp_path / "g.onnx"), *with_report]) == 2
    assert "of the target cpu, so no share of agx-orin's peaks" in capsys.readouterr().err
    replace(report, target="rtx").save(tmp_path / "report.json")
    assert main(["roofline", str(tmp_path / "g.onnx"), *with_report]) == 2
    assert "measured on the target rtx; agx-orin is one of jetson-orin" in capsys.readouterr().err
    replace(report, target="jetson-orin", model="lstr").save(tmp_path / "report.json")
    assert main(["roofline", str(float_onnx), *with_report]) == 2
    assert "is of lstr, the graph of ufld" in capsys.readouterr().err


def test_the_share_reached_is_of_the_devices_own_time_of_the_network(tmp_path, chain, capsys):
    onnx.save(chain, tmp_path / "g.onnx")
    made = made_latency(0)
    starts = tuple(replace(s, device_ms=[[1.0, 5.0, 0.5]] * 9) for s in made.starts)
    report = replace(made_report(replace(made, starts=starts)), target="jetson-orin")
    report.save(tmp_path / "report.json")
    words = ["roofline", str(tmp_path / "g.onnx"), "--target", "agx-orin"]
    assert main([*words, "--report", str(tmp_path)]) == 0
    assert "measured 5.000 ms" in capsys.readouterr().out


SHAPES = [
    # depthwise of two images with stride 2
    ("Conv", (8, 1, 3, 3), (2, 8, 10, 12), {"group": 8, "pads": [1] * 4, "strides": [2, 2]},
     (2 * 8 * 5 * 6 * 9, 72, 2 * 8 * 120, 2 * 8 * 30, 1, 1)),
    ("Conv", (16, 2, 3, 3), (3, 8, 10, 12), {"group": 4},
     (3 * 16 * 8 * 10 * 2 * 9, 288, 3 * 960, 3 * 16 * 80, 2, 4)),
    ("Conv", (4, 8, 3, 3), (1, 8, 9, 9), {"dilations": [2, 2]}, (4 * 25 * 72, 288, 648, 100, 8, 4)),
    ("ConvTranspose", (8, 3, 2, 2), (2, 8, 5, 6), {"group": 2, "strides": [2, 2]},
     (2 * 8 * 30 * 3 * 4, 96, 480, 2 * 6 * 10 * 12, 4, 3)),
    ("Gemm", (7, 5), (3, 5), {"transB": 1}, (105, 35, 15, 21, 5, 7)),
    ("Gemm", (5, 7), (5, 3), {"transA": 1}, (105, 35, 15, 21, 5, 7)),
    ("MatMul", (5, 7), (2, 4, 5), {}, (280, 35, 40, 56, 5, 7)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "weight", "shape", "options", "expected"), SHAPES)
def test_work_of_groups_strides_batches_and_transposed_kernels(
    op, weight, shape, options, expected
):
    node = helper.make_node(op, ["x", "w"], ["y"], name="c", **options)
    (found,) = layer_work(graph([node], {"w": weight}, shape, ["y"]))
    numbers = (found.macs, found.weights, found.read, found.written)
    assert (*numbers, found.channels_in, found.channels_out) == expected


def test_an_unknown_device_is_one_line(tmp_path, chain, capsys):
    onnx.save(chain, tmp_path / "g.onnx")
    assert main(["roofline", str(tmp_path / "g.onnx"), "--target", "rtx4009"]) == 2
    assert "did you mean 'rtx4090'?" in capsys.readouterr().err
