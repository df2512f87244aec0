import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from qdq_graphs import (
    GraphMaker,
    pair,
    resnet,
    run,
    segmentation,
    simulate,
    tensor_maxima,
    transformer,
)

from engines.cpu_graph import lower
from engines.macs import count_macs
from trt_lane.errors import TrtLaneError

NETWORKS = [resnet, segmentation, transformer]


def rms(x):
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def quantisation_noise(found):
    return rms(simulate(found.qdq, found.image) - run(found.float_model, found.image))


def kinds(model):
    return [n.op_type for n in model.graph.node]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_error_against_float_grows_little_over_that_of_the_qdq_graph(network, seed):
    found = pair(network, seed=seed)
    lowered = lower(found.qdq, found.maxima).model
    expected = run(found.float_model, found.image)
    simulated, integer = simulate(found.qdq, found.image), run(lowered, found.image)
    # A deep random network amplifies every flip of a level, so only the statistics compare.
    assert rms(integer - expected) < 1.5 * rms(simulated - expected)


@pytest.mark.parametrize("seed", range(3))
def test_without_additions_the_integers_are_those_of_the_qdq_graph(seed):
    found = pair(_chain, seed=seed)
    lowered = lower(found.qdq, found.maxima)
    assert not lowered.roundings and not lowered.in_float
    simulated, integer = simulate(found.qdq, found.image), run(lowered.model, found.image)
    # The bias is rounded to accumulator steps, about 1/1000 of a level: of 1300 levels in this net
    # one or two flip, each far below the noise of quantisation itself.
    assert rms(simulated - integer) < 0.4 * quantisation_noise(found)


def test_every_layer_of_a_resnet_runs_in_an_integer_kernel():
    found = pair(resnet)
    lowered = lower(found.qdq, found.maxima)
    operators = kinds(lowered.model)
    assert not lowered.in_float
    assert operators.count("QLinearConv") + operators.count("QGemm") == len(count_macs(found.qdq))
    assert not {"Conv", "Gemm", "MatMul", "Relu", "Add"} & set(operators)


def test_linear_layers_multiply_integers_and_give_float():
    operators = kinds(lower(pair(transformer).qdq).model)
    assert operators.count("MatMulIntegerToFloat") == 7
    assert operators.count("MatMul") == 2  # attention's own products stay in float


def test_a_transposed_convolution_without_overlap_becomes_a_convolution():
    found = pair(segmentation)
    operators = kinds(lower(found.qdq, found.maxima).model)
    assert "ConvTranspose" not in operators


def test_a_float_answer_is_not_rounded_and_the_reason_is_given():
    lowered = lower(pair(segmentation).qdq, pair(segmentation).maxima)
    assert list(lowered.in_float) == ["n_out"]
    assert "output" in lowered.in_float["n_out"]


def test_added_rounding_is_stated_and_no_coarser_than_the_reader_sees():
    found = pair(resnet)
    lowered = lower(found.qdq, found.maxima)
    assert {r.tensor for r in lowered.roundings} == {f"s{i}b0_conv2" for i in range(3)}
    for rounding in lowered.roundings:
        assert 0 < rounding.step <= 2.0001 * found.maxima[rounding.tensor] / 255


def test_clipping_scales_clip_as_int8_does():
    """Scales below max / 127 saturate at 127 levels; uint8 with zero 0 would go on to 255."""
    network = GraphMaker(seed=1)
    float_model = _chain(network)
    image = np.random.default_rng(2).standard_normal((1, 3, 12, 16)).astype(np.float32)
    maxima = tensor_maxima(float_model, image[None])
    scales = {k: 0.5 * v / 127 for k, v in maxima.items()}
    qdq = _chain(GraphMaker(scales=scales, seed=1))
    for known in (maxima, None):
        lowered = lower(qdq, known).model
        noise = rms(simulate(qdq, image) - run(float_model, image))
        assert rms(simulate(qdq, image) - run(lowered, image)) < 0.1 * noise


def test_dead_channels_with_steps_near_zero_keep_their_bias():
    found = pair(_chain)
    graph = found.qdq.graph
    scale = next(i for i in graph.initializer if i.name == "b_w_scale")
    values = numpy_helper.to_array(scale).copy()
    values[:2] = 1e-30
    scale.CopyFrom(numpy_helper.from_array(values, "b_w_scale"))
    lowered = lower(found.qdq, found.maxima)
    assert not lowered.in_float
    simulated, integer = simulate(found.qdq, found.image), run(lowered.model, found.image)
    assert rms(simulated - integer) < 0.02 * rms(simulated)


def test_biases_shared_through_identity_nodes_are_found():
    found = pair(_chain)
    node = next(n for n in found.qdq.graph.node if n.name == "n_b")
    found.qdq.graph.node.insert(0, onnx.helper.make_node("Identity", ["b_b"], ["shared"]))
    node.input[2] = "shared"
    lowered = lower(found.qdq, found.maxima)
    assert kinds(lowered.model).count("QLinearConv") == 3


def test_a_layer_kept_in_float_reads_floats():
    """Layer c without Q/DQ: what b gives it must not be rounded on the way."""
    found = pair(_chain)
    graph = found.qdq.graph
    float_weight = next(i for i in found.float_model.graph.initializer if i.name == "c_w")
    graph.initializer.append(float_weight)
    node = next(n for n in graph.node if n.name == "n_c")
    node.input[0], node.input[1] = "b_relu", "c_w"
    gone = {"b_relu_q", "b_relu_dq", "c_w_dq"}
    kept = [n for n in graph.node if not gone & set(n.output)]
    del graph.node[:]
    graph.node.extend(kept)
    lowered = lower(found.qdq, found.maxima)
    assert not lowered.roundings and "n_b" in lowered.in_float
    np.testing.assert_allclose(
        run(lowered.model, found.image), simulate(found.qdq, found.image), atol=0.05
    )


def test_relu6_is_clipped_in_integers():
    found = pair(_relu6)
    lowered = lower(found.qdq, found.maxima)
    assert "Conv" not in kinds(lowered.model)
    error = simulate(found.qdq, found.image) - run(lowered.model, found.image)
    assert rms(error) < 0.4 * quantisation_noise(found)


def test_a_float_graph_passes_through_unchanged_in_value():
    found = pair(resnet)
    lowered = lower(found.float_model).model
    np.testing.assert_allclose(
        run(lowered, found.image), run(found.float_model, found.image), rtol=1e-4, atol=1e-4
    )


def test_the_qdq_graph_itself_is_not_changed():
    found = pair(resnet)
    before = found.qdq.SerializeToString(deterministic=True)
    lower(found.qdq, found.maxima)
    assert found.qdq.SerializeToString(deterministic=True) == before


def test_an_fp16_graph_is_refused_with_what_to_do():
    with pytest.raises(TrtLaneError, match="target cpu"):
        lower(pair(resnet, dtype=np.float16).qdq)


def _chain(maker: GraphMaker) -> onnx.ModelProto:
    x = maker.conv("image", "a", 3, 8, 3, relu=True)
    x = maker.conv(x, "b", 8, 8, 3, 2, relu=True)
    x = maker.conv(x, "c", 8, 4, 1)
    x = maker.node("Reshape", [x, maker.constant("s", np.int64([1, 4 * 6 * 8]))], "flat")
    x = maker.gemm(x, "d", 4 * 6 * 8, 10)
    return maker.model([1, 3, 12, 16], {x: [1, 10]})


def _relu6(maker: GraphMaker) -> onnx.ModelProto:
    x = maker.conv("image", "a", 3, 8, 3)
    bounds = [maker.constant("zero", np.float32(0)), maker.constant("top", np.float32(1.5))]
    x = maker.node("Clip", [x, *bounds], "a6")
    x = maker.node("GlobalAveragePool", [maker.conv(x, "b", 8, 8, 3, relu=True)], "mean")
    x = maker.node("Reshape", [x, maker.constant("s", np.int64([1, 8]))], "flat")
    x = maker.gemm(x, "d", 8, 10)
    return maker.model([1, 3, 12, 16], {x: [1, 10]})
