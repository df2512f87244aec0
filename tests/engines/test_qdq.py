import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.qdq import DOMAIN, live_nodes, resolve_markers
from trt_lane.scales import Scale, ScaleTable, Site

SHAPE = [1, 3, 4, 5]
TABLE = ScaleTable(
    sites=(Site("a", ("conv",), "a"),),
    activations={"a": Scale(0.125)},
    weights={"conv.weight": Scale(np.full(2, 0.5), 0)},
    rounded={"conv.weight": np.int8(np.arange(6).reshape(2, 3, 1, 1))},
)


def mark(kind, source, target, name):
    return helper.make_node(
        kind, [source], [target], domain=DOMAIN, name=f"m_{target}", name_s=name
    )


def marked(nodes, outputs, constants=None):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    # The exporter writes the name as an attribute without a suffix.
    for node in model.graph.node:
        for attribute in node.attribute:
            attribute.name = attribute.name.removesuffix("_s")
    return model


def resolved(model, table=None):
    names = resolve_markers(model, table)
    inferred = onnx.shape_inference.infer_shapes(model)
    for output in inferred.graph.output:
        assert output.type.tensor_type.HasField("shape"), output.name
    onnx.checker.check_model(inferred)
    assert not any(n.domain == DOMAIN for n in model.graph.node)
    assert [o.domain for o in model.opset_import] == [""]
    return names


def relu(source, target):
    return helper.make_node("Relu", [source], [target], name=f"/{target}")


def test_a_tensor_takes_the_name_of_its_graph_node_and_a_head_its_own():
    model = marked(
        [relu("image", "1"), mark("Name", "1", "2", "act"), relu("2", "3"),
         mark("Name", "3", "out", "last")],
        ["out"],
    )  # fmt: skip
    assert resolved(model) == {"act": "act", "last": "out"}
    assert [tuple(n.input) + tuple(n.output) for n in model.graph.node] == [
        ("image", "act"),
        ("act", "out"),
    ]
    assert [n.name for n in model.graph.node] == ["act", "last"]


def test_a_layer_named_like_a_head_makes_way():
    model = marked(
        [relu("image", "1"), mark("Name", "1", "2", "out"), relu("2", "3"),
         mark("Name", "3", "out", "last")],
        ["out"],
    )  # fmt: skip
    assert resolved(model) == {"out": "out_inner", "last": "out"}


def test_a_head_that_passes_through_unchanged_stays_a_head():
    # The exporter drops a view that changes nothing: two graph nodes are then one tensor.
    model = marked(
        [relu("image", "1"), mark("Name", "1", "first", "a"), mark("Name", "first", "2", "b"),
         relu("2", "3"), mark("Name", "3", "second", "c")],
        ["first", "second"],
    )  # fmt: skip
    assert resolved(model) == {"a": "first", "b": "first", "c": "second"}


def test_one_tensor_as_two_heads_gets_both_names():
    model = marked(
        [relu("image", "1"), mark("Name", "1", "first", "a"), mark("Name", "first", "second", "b")],
        ["first", "second"],
    )
    resolved(model)
    assert [n.op_type for n in model.graph.node] == ["Relu", "Identity"]


def test_an_input_that_is_a_head_is_passed_on():
    resolved(marked([mark("Name", "image", "out", "view")], ["out"]))


def test_quantised_tensors_and_weights_get_the_tables_numbers():
    conv = helper.make_node("Conv", ["3", "4"], ["5"], name="/conv")
    model = marked(
        [relu("image", "1"), mark("Name", "1", "2", "a"), mark("Quantize", "2", "3", "a"),
         helper.make_node("Identity", ["w"], ["same"], name="shared"),
         mark("Weight", "same", "4", "conv.weight"), conv, mark("Name", "5", "out", "conv")],
        ["out"],
        {"w": np.zeros((2, 3, 1, 1), np.float32)},
    )  # fmt: skip
    resolved(model, TABLE)
    assert [n.op_type for n in model.graph.node] == [
        "Relu",
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "Conv",
    ]
    held = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    assert "w" not in held
    np.testing.assert_array_equal(held["conv.weight_int8"], TABLE.rounded["conv.weight"])
    assert held["a_scale"].shape == ()  # (1,) would be read as one step per channel
    assert held["a_scale"] == np.float32(0.125)
    assert model.graph.node[3].attribute[0].i == 0


def test_a_weight_that_is_used_twice_is_held_and_unpacked_once():
    def layer(x, w, y):
        return helper.make_node("Conv", [x, w], [y], name=f"/{y}")

    model = marked(
        [mark("Weight", "w", "1", "conv.weight"), layer("image", "1", "2"),
         mark("Weight", "w", "3", "conv.weight"), layer("image", "3", "4"),
         helper.make_node("Add", ["2", "4"], ["5"], name="add"), mark("Name", "5", "out", "add")],
        ["out"],
        {"w": np.zeros((2, 3, 1, 1), np.float32)},
    )  # fmt: skip
    resolved(model, TABLE)
    assert sum(n.op_type == "DequantizeLinear" for n in model.graph.node) == 1


def test_one_tensor_quantised_under_two_names_is_quantised_once():
    nodes = [
        relu("image", "1"),
        mark("Name", "1", "2", "a"),
        mark("Quantize", "2", "3", "a"),
        mark("Quantize", "2", "4", "a"),
        helper.make_node("Add", ["3", "4"], ["5"], name="add"),
        mark("Name", "5", "out", "add"),
    ]
    model = marked(nodes, ["out"])
    resolved(model, TABLE)
    assert sum(n.op_type == "QuantizeLinear" for n in model.graph.node) == 1


@pytest.mark.parametrize("wanted", [{"b"}, {"c"}, {"b", "c"}])
def test_only_nodes_that_an_output_needs_are_kept(wanted):
    nodes = [relu("image", "a"), relu("a", "b"), relu("a", "c"), relu("c", "d")]
    assert [n.output[0] for n in live_nodes(nodes, wanted)] == sorted({"a"} | wanted)
