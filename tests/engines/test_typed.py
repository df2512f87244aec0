import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from qdq_graphs import ort_session

from engines.typed import FP16_LIMIT, fp32_nodes, to_float_type
from trt_lane.errors import TrtLaneError

SHAPE = [1, 4, 6, 8]


def graph(nodes, outputs, constants=None, shape=SHAPE):
    """A float model image -> outputs (name -> shape or None) that ONNX accepts."""
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        initializers,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)])
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return model


def node(op, inputs, outputs, **attributes):
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return helper.make_node(op, inputs, outputs, name=f"n_{outputs[0]}", **attributes)


def typed(model, maxima=None):
    """The FP16 form, after checking that every type in it fits."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    half = to_float_type(copied, "fp16", maxima or {})
    onnx.checker.check_model(half, full_check=True)
    onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True, data_prop=True)
    for value in (*half.graph.input, *half.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    return half


def types_of(model):
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    return kinds | {i.name: i.data_type for i in model.graph.initializer}


def assert_agree(model, half, tolerance, seed=0):
    image = np.random.default_rng(seed).standard_normal(
        [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    )
    image = image.astype(np.float32)
    found = ort_session(half).run(None, {"image": image})
    for value, expected in zip(found, ort_session(model).run(None, {"image": image}), strict=True):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected, atol=tolerance * np.abs(expected).max())


def last(tensor, output="out", channels=4, constants=None):
    """A layer behind a tensor, so that what is in front of it is not the tail of a head."""
    constants["last_w"] = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    return node("Conv", [tensor, "last_w"], output)


def rng(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


W = rng(4, 4, 3, 3)
CASES = {
    "one constant in both types": (
        [
            node("Mul", ["image", "c"], "a"),
            node("LayerNormalization", ["a", "g"], "b", axis=-1),
            node("Mul", ["b", "c"], "d"),
            node("Mul", ["d", "g"], "e"),
        ],
        {"c": rng(1, 4, 1, 1), "g": rng(8)},
    ),
    "softmax and constant nodes": (
        [
            node("Softmax", ["image"], "a", axis=1),
            node("Constant", [], "two", value=numpy_helper.from_array(np.float32(2.5))),
            node("Mul", ["a", "two"], "b"),
            node("Exp", ["b"], "c"),
            node("Mul", ["c", "two"], "d"),
            node("Constant", [], "shape", value=numpy_helper.from_array(np.int64([1, 4, 48]))),
            node("Reshape", ["d", "shape"], "f"),
            node("Constant", [], "back", value=numpy_helper.from_array(np.int64(SHAPE))),
            node("Reshape", ["f", "back"], "e"),
        ],
        {},
    ),
    "resize by scales and by sizes": (
        [
            node("Conv", ["image", "w"], "a", pads=[1] * 4),
            node("Resize", ["a", "", "twice"], "b", mode="linear"),
            node("Resize", ["b", "", "", "sizes"], "e", mode="linear"),
        ],
        {"w": W, "twice": np.float32([1, 1, 2, 2]), "sizes": np.int64(SHAPE)},
    ),
    "resize by computed scales": (
        [
            node("Constant", [], "one", value=numpy_helper.from_array(np.float32([1, 1]))),
            node("Constant", [], "part", value=numpy_helper.from_array(np.float32([1.7, 1.7]))),
            node("Concat", ["one", "part"], "scales", axis=0),
            node("Resize", ["image", "", "scales"], "e", mode="nearest"),
        ],
        {},
    ),
    "top k and gather": (
        [
            node("Relu", ["image"], "r"),
            node("TopK", ["r", "k"], ["v", "i"], axis=3),
            node("GatherElements", ["r", "i"], "g", axis=3),
            node("Add", ["v", "g"], "s"),
            node("Gather", ["s", "first"], "e", axis=3),
        ],
        {"k": np.int64([3]), "first": np.int64([2, 0, 1])},
    ),
    "where and comparisons": (
        [
            node("Less", ["image", "zero"], "negative"),
            node("GreaterOrEqual", ["image", "one"], "large"),
            node("Or", ["negative", "large"], "either"),
            node("Not", ["either"], "between"),
            node("Exp", ["image"], "x"),
            node("Where", ["between", "x", "one"], "e"),
        ],
        {"zero": np.float32(0), "one": np.float32(1)},
    ),
    "a condition read in both types": (
        [
            node("LessOrEqual", ["image", "zero"], "c"),
            node("Where", ["c", "image", "zero"], "a"),
            node("Exp", ["a"], "b"),
            node("Where", ["c", "b", "big"], "d"),
            node("Min", ["d", "five"], "e"),
        ],
        {"zero": np.float32(0), "big": np.float32(1e6), "five": np.float32(5)},
    ),
    "grid sample": (
        [
            node("Mul", ["image", "half"], "m"),
            node("Slice", ["m", "from", "to", "axis"], "two"),
            node("Transpose", ["two"], "grid", perm=[0, 2, 3, 1]),
            node("GridSample", ["image", "grid"], "e"),
        ],
        {
            "half": np.float32(0.4),
            "from": np.int64([0]),
            "to": np.int64([2]),
            "axis": np.int64([1]),
        },
    ),
    "split, concat, pad and clip": (
        [
            node("Split", ["image"], ["a", "b"], axis=1, num_outputs=2),
            node("Concat", ["b", "a"], "c", axis=1),
            node("Pad", ["c", "pads", "fill"], "d"),
            node("Clip", ["d", "low", "high"], "f"),
            node("Slice", ["f", "from", "to", "axis"], "e"),
        ],
        {
            "pads": np.int64([0, 0, 0, 1, 0, 0, 0, 1]),
            "fill": np.float32(0.5),
            "low": np.float32(-1),
            "high": np.float32(1),
            "from": np.int64([1]),
            "to": np.int64([9]),
            "axis": np.int64([3]),
        },
    ),
    "filled and shaped": (
        [
            node("Shape", ["image"], "shape"),
            node(
                "ConstantOfShape",
                ["shape"],
                "ones",
                value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5]),
            ),
            node("Add", ["image", "ones"], "a"),
            node("ReduceMean", ["a", "axes"], "mean"),
            node("Expand", ["mean", "shape"], "m"),
            node("Sub", ["a", "m"], "e"),
        ],
        {"axes": np.int64([2, 3])},
    ),
    "casts of masks": (
        [
            node("Greater", ["image", "zero"], "c"),
            node("Cast", ["c"], "f", to=TensorProto.FLOAT),
            node("ArgMax", ["image"], "i", axis=1),
            node("Cast", ["i"], "j", to=TensorProto.FLOAT),
            node("Mul", ["f", "j"], "m"),
            node("Add", ["m", "image"], "e"),
        ],
        {"zero": np.float32(0)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_operator_gets_matching_types_and_the_same_numbers(name):
    nodes, constants = CASES[name]
    constants = dict(constants)
    nodes = [*nodes, last("e", constants=constants)]
    model = graph(nodes, {"out": ["n", "c", "h", "w"]}, constants)
    half = typed(model)
    assert_agree(model, half, 5e-3)
    assert TensorProto.FLOAT16 in types_of(half).values()


def test_a_network_in_fp32_is_left_as_it_is():
    model = graph([node("Relu", ["image"], "out")], {"out": SHAPE})
    before = model.SerializeToString()
    assert to_float_type(model, "fp32", {}).SerializeToString() == before


def test_an_unknown_type_is_refused():
    with pytest.raises(TrtLaneError, match="'bf16' is unknown; expected fp16 or fp32"):
        to_float_type(graph([node("Relu", ["image"], "out")], {"out": SHAPE}), "bf16", {})


def test_a_head_that_comes_from_a_mask_is_fp32():
    nodes = [
        node("Greater", ["image", "zero"], "c"),
        node("Cast", ["c"], "out", to=TensorProto.FLOAT),
    ]
    model = graph(nodes, {"out": SHAPE}, {"zero": np.float32(0)})
    assert_agree(model, typed(model), 0)


def test_a_head_that_others_read_serves_them_too():
    nodes = [
        node("Conv", ["image", "w"], "first", pads=[1] * 4),
        node("Relu", ["first"], "r"),
        node("Conv", ["r", "w"], "second", pads=[1] * 4),
    ]
    model = graph(nodes, {"first": SHAPE, "second": SHAPE}, {"w": W})
    assert_agree(model, typed(model), 3e-3)


def big_chain(gain):
    nodes = [
        node("Conv", ["image", "w"], "a", pads=[1] * 4),
        node("Mul", ["a", "gain"], "unnamed"),
        node("Add", ["unnamed", "c"], "big"),
        node("Relu", ["big"], "r"),
        node("Mul", ["r", "inverse"], "small"),
        node("Sigmoid", ["small"], "s"),
        node("Conv", ["s", "w"], "out", pads=[1] * 4),
    ]
    constants = {
        "w": W,
        "gain": np.float32(gain),
        "inverse": np.float32(1 / gain),
        "c": rng(1, 4, 1, 1),
    }
    return graph(nodes, {"out": SHAPE}, constants)


def test_what_passes_fp16s_range_stays_in_fp32_with_all_that_makes_or_reads_it():
    model = big_chain(30_000.0)
    largest = 30_000.0 * 15
    maxima = {"image": 4.0, "a": 15.0, "big": largest, "r": largest, "small": 15.0, "s": 1.0}
    kept = fp32_nodes(model, maxima)
    assert {"n_unnamed", "n_big", "n_r", "n_small"} <= kept.keys()
    assert "n_s" not in kept
    assert "big" in kept["n_big"]
    half = typed(model, maxima)
    told = {p.key: p.value for p in half.metadata_props}["fp32_nodes"]
    assert "n_big: |big| reaches 4.5e+05" in told
    assert types_of(half)["s"] == TensorProto.FLOAT16
    assert_agree(model, half, 5e-3)


def test_a_large_tensor_that_is_quantised_is_rounded_and_read_in_fp32():
    step = np.float32(1e5 / 127)
    nodes = [
        node("Mul", ["image", "gain"], "big"),
        node("QuantizeLinear", ["big", "step", "zero"], "q"),
        node("DequantizeLinear", ["q", "step", "zero"], "dq"),
        node("Conv", ["dq", "w"], "c", pads=[1] * 4),
        node("Mul", ["c", "inverse"], "m"),
        last("m", constants=(constants := {})),
    ]
    constants |= {"gain": np.float32(25_000), "inverse": np.float32(1e-4), "step": step}
    constants |= {"zero": np.int8(0), "w": W}
    model = graph(nodes, {"out": SHAPE}, constants)
    half = typed(model, {"image": 4.0, "big": 1e5, "c": 1e6, "m": 100.0})
    assert types_of(half)["dq"] == TensorProto.FLOAT
    assert_agree(model, half, 3e-3)


def test_near_the_limit_is_too_near():
    model = big_chain(1.0)
    assert "n_r" in fp32_nodes(model, {"r": FP16_LIMIT * 1.01})
    assert "n_r" not in fp32_nodes(model, {"r": FP16_LIMIT * 0.99})


@pytest.mark.parametrize("as_node", [True, False])
@pytest.mark.parametrize("value", [1e-12, 1e9, -np.inf])
def test_constants_that_fp16_cannot_hold_keep_their_reader_in_fp32(as_node, value):
    nodes = [node("Max" if value > 0 else "Min", ["image", "c"], "m")]
    constants = {"c": np.float32(value)}
    if as_node:
        nodes.insert(
            0, node("Constant", [], "c", value=numpy_helper.from_array(constants.pop("c")))
        )
    nodes.append(last("m", constants=constants))
    assert "n_m" in fp32_nodes(graph(nodes, {"out": SHAPE}, constants), {})


def test_a_norm_is_safe_against_division_by_zero():
    nodes = [
        node("ReduceL2", ["image", "axes"], "norm"),
        node("Max", ["norm", "epsilon"], "safe"),
        node("Div", ["image", "safe"], "e"),
    ]
    constants = {"axes": np.int64([1]), "epsilon": np.float32(1e-12)}
    nodes.append(last("e", constants=constants))
    model = graph(nodes, {"out": SHAPE}, constants)
    # ONNX Runtime divides in FP32 on a CPU anyway: only the types tell.
    assert {"n_norm", "n_safe", "n_e"} <= fp32_nodes(model, {}).keys()
    half = typed(model)
    assert_agree(model, half, 3e-3)


def test_an_int8_layer_in_fp32_reads_its_levels_without_a_cast_between():
    nodes = [
        node("QuantizeLinear", ["image", "step", "zero"], "q"),
        node("DequantizeLinear", ["q", "step", "zero"], "dq"),
        node("DequantizeLinear", ["w_q", "w_step", "w_zero"], "w_dq", axis=0),
        node("Conv", ["dq", "w_dq"], "hidden", pads=[1] * 4),
        node("Relu", ["hidden"], "r"),
        node("Conv", ["dq", "w_dq"], "head", pads=[1] * 4),
        last("r", constants=(constants := {})),
    ]
    constants |= {
        "step": np.float32(0.03125),
        "zero": np.int8(0),
        "w_q": np.int8(np.clip(W * 40, -127, 127)),
        "w_step": np.float32([0.025] * 4),
        "w_zero": np.zeros(4, np.int8),
    }
    model = graph(nodes, {"out": SHAPE, "head": SHAPE}, constants)
    half = typed(model)
    makers = {o: n for n in half.graph.node for o in n.output}
    convolutions = [n for n in half.graph.node if n.op_type == "Conv" and n.name != "n_out"]
    assert len(convolutions) == 2
    for layer in convolutions:
        for name in layer.input:
            assert makers[name].op_type == "DequantizeLinear"
    assert {types_of(half)[n.input[1]] for n in convolutions} == {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
    }
    assert_agree(model, half, 3e-2)
