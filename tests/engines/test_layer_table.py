import numpy as np
import onnx
import pytest
from qdq_graphs import pair, resnet

from engines.inspect import format_table, table_from_inspector, table_from_rtx_log
from engines.layer_table import LayerRecord, RawLayer, assign_macs, coverage
from engines.macs import NodeMacs
from trt_lane.errors import TrtLaneError


def layer(name, kind, types, *nodes):
    return RawLayer(name, kind, tuple(types), ("FP16",), nodes)


def work(node, macs=100, weighted=True, quantised=True, op="Conv"):
    return NodeMacs(node, op, macs, weighted, quantised)


def test_work_goes_to_the_layer_that_multiplies_not_to_the_one_that_rescales():
    layers = [
        layer("__myl_MulAdd_myl0_1", "kgen", ["FP16"], "a", "a_relu"),
        layer("a_myl0_2", "correlation", ["INT8"], "a"),
    ]
    table = assign_macs(layers, [work("a")])
    assert [r.macs for r in table] == [0, 100]
    assert coverage(table).share == 1


def test_layers_that_the_builder_joined_carry_the_work_of_all():
    layers = [layer("q+k+v_myl0_3", "gemm", ["INT8"], "q", "k", "v")]
    assert assign_macs(layers, [work(n) for n in "qkv"])[0].macs == 300


def test_a_node_inside_a_fused_layer_is_found_by_its_metadata():
    layers = [layer("__myl_FcMulAdd_myl0_1", "kgen", ["INT8"], "fc")]
    assert assign_macs(layers, [work("fc")])[0].macs == 100


def test_one_name_that_begins_another_is_not_taken_for_it():
    layers = [
        layer("conv10_myl0_1", "correlation", ["INT8"], "conv10", "conv1_dq"),
        layer("conv1_myl0_2", "correlation", ["FP16"], "conv1"),
    ]
    assert [r.macs for r in assign_macs(layers, [work("conv1"), work("conv10", 7)])] == [7, 100]


def test_reasons_tell_the_recipe_from_the_builder():
    layers = [
        layer("a_myl0_1", "deconv", ["FP16"], "a"),
        layer("b_myl0_2", "correlation", ["FP16"], "b"),
    ]
    found = coverage(
        assign_macs(layers, [work("a", op="ConvTranspose"), work("b", quantised=False)])
    )
    reasons = dict(found.not_int8)
    assert "the builder runs this ConvTranspose (deconv) in FP16" in reasons["a_myl0_1"]
    assert "no Q/DQ" in reasons["b_myl0_2"]
    assert found.share == 0


def test_a_node_that_no_layer_names_counts_as_float():
    found = coverage(assign_macs([], [work("lost")]))
    assert found.share == 0 and "not proven" in found.not_int8[0][1]


def test_attention_is_counted_apart():
    layers = [layer("s_myl0_1", "gemm", ["FP16", "FP16"], "s")]
    found = coverage(assign_macs(layers, [work("s", weighted=False)]))
    assert (found.total_macs, found.activation_macs, found.share, found.not_int8) == (
        0,
        100,
        1.0,
        (),
    )


def test_a_record_survives_json():
    record = LayerRecord("n", "k", ("INT8",), ("FP16",), ("a",), 5, 0, "")
    assert LayerRecord.from_dict(record.to_dict()) == record


@pytest.mark.parametrize("key", ["Format/Datatype", "Datatype"])
def test_the_inspectors_json_of_tensorrt_10_and_11_gives_the_table(key):
    model = pair(resnet).qdq
    convolutions = [n.name for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
    report = {
        "Layers": [
            {
                "Name": f"{name} + {name}_relu",
                "LayerType": "CaskConvolution",
                "Inputs": [{"Name": "x", key: "Int8"}],
                "Outputs": [{"Name": "y", key: "Half"}],
                "Metadata": f"[ONNX Layer: {name}]\x1e[ONNX Layer: {name}_relu]",
            }
            for name in convolutions
        ]
    }
    table = table_from_inspector(report, model)
    assert coverage(table).share == 1 and len(table) == len(convolutions)
    assert convolutions[0] in format_table(table)


def test_an_inspectors_report_of_names_only_is_refused():
    with pytest.raises(TrtLaneError, match="detailed profiling"):
        table_from_inspector({"Layers": ["conv1", "conv2"]}, onnx.ModelProto())


def test_a_log_without_layers_is_refused():
    with pytest.raises(TrtLaneError, match="Layers:"):
        table_from_rtx_log("[INFO] all is well\n", onnx.ModelProto())


def test_a_layer_record_of_unknown_form_is_refused():
    with pytest.raises(TrtLaneError, match="unknown form"):
        table_from_rtx_log("Layers:\nName: x; LayerKind: y\n", pair(resnet, dtype=np.float16).qdq)


def test_the_heaviest_layer_in_float_is_told_first():
    kinds = {"light": "FP32", "heavy": "FP32", "whole": "INT8"}
    layers = [layer(name, "correlation", [kind], name) for name, kind in kinds.items()]
    table = assign_macs(layers, [work("light", 3), work("heavy", 50), work("whole", 900)])
    assert [name for name, _ in coverage(table).not_int8] == ["heavy", "light"]
