import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.cpu_graph import lower


def graph_of(node, inputs, output, constants=()):
    """A network of one node; inputs and output are name -> shape."""
    values = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)]
    model = helper.make_model(
        helper.make_graph([node], "net", values, result, list(constants)),
        opset_imports=[helper.make_opsetid("", 19)],
    )
    model.ir_version = 9
    return model


def results(model, feed):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)[0]


def sampled(shape, out, **numbers):
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], name="sample", **numbers)
    return graph_of(node, {"x": shape, "grid": [shape[0], *out, 2]}, [*shape[:2], *out])


@pytest.mark.parametrize("shape", [(1, 16, 10, 28), (2, 3, 7, 1), (1, 4, 1, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_samples_counted_from_the_edges_are_those_counted_from_the_centres(shape, seed):
    model = sampled(shape, (12, 9), mode="bilinear", align_corners=1)
    rng = np.random.default_rng(seed)
    grid = rng.uniform(-1.6, 1.6, (shape[0], 12, 9, 2)).astype(np.float32)
    grid[0, 0, :4] = [(-1, -1), (1, 1), (1, -1), (0, 0)]  # outermost centres and the middle
    feed = {"x": rng.standard_normal(shape).astype(np.float32), "grid": grid}
    lowered = lower(model).model
    (node,) = [n for n in lowered.graph.node if n.op_type == "GridSample"]
    assert {a.name: a.i for a in node.attribute}["align_corners"] == 0
    np.testing.assert_allclose(results(lowered, feed), results(model, feed), atol=2e-5)


@pytest.mark.parametrize(
    "numbers",
    [
        {"mode": "bilinear", "align_corners": 0},
        {"mode": "bilinear", "align_corners": 1, "padding_mode": "border"},
        {"mode": "nearest", "align_corners": 1},
        {"mode": "bicubic", "align_corners": 1},
    ],
)
def test_other_samplings_stay_as_they_are(numbers):
    (node,) = lower(sampled((1, 16, 6, 8), (5, 4), **numbers)).model.graph.node
    assert node.op_type == "GridSample"
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert given == {k: v.encode() if isinstance(v, str) else v for k, v in numbers.items()}


@pytest.mark.parametrize("axis", [2, -1])
def test_columns_are_gathered_as_rows(axis):
    places = numpy_helper.from_array(np.int64([3, 0, 3, 39, 17]), "places")
    node = helper.make_node("Gather", ["x", "places"], ["y"], name="gather", axis=axis)
    model = graph_of(node, {"x": [2, 16, 40]}, [2, 16, 5], [places])
    x = np.random.default_rng(0).standard_normal((2, 16, 40)).astype(np.float32)
    lowered = lower(model).model
    assert [n.op_type for n in lowered.graph.node] == ["Transpose", "Gather", "Transpose"]
    np.testing.assert_array_equal(results(lowered, {"x": x}), x[:, :, [3, 0, 3, 39, 17]])
    assert {n.name.split("|")[0] for n in lowered.graph.node} == {"gather"}


@pytest.mark.parametrize(
    "shape, axis, places", [((2, 16, 40), 1, [1, 0]), ((2, 4, 40), 2, [1, 0]), ((2, 16, 40), 2, 7)]
)
def test_a_gather_that_is_quick_already_stays(shape, axis, places):
    places = np.int64(places)
    node = helper.make_node("Gather", ["x", "places"], ["y"], axis=axis)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = np.take(x, places, axis)
    model = graph_of(
        node, {"x": shape}, expected.shape, [numpy_helper.from_array(places, "places")]
    )
    lowered = lower(model).model
    assert [n.op_type for n in lowered.graph.node] == ["Gather"]
    np.testing.assert_array_equal(results(lowered, {"x": x}), expected)
