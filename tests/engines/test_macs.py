import numpy as np
import pytest
import tiny_networks
from onnx import TensorProto, helper, numpy_helper
from qdq_graphs import GraphMaker, pair, resnet, segmentation, transformer
from tiny_networks import HW, described, frames, made

from calibrators.calibrate import calibrate
from calibrators.insert import quantised_layers
from calibrators.recipe_files import load_recipe
from calibrators.sensitivity.macs import layer_macs, share_of
from engines.export import export
from engines.macs import count_macs, quantised_share
from trt_lane.models._folded import fold


def macs_of(model):
    return {w.node: w for w in count_macs(model)}


def test_a_convolution_does_outputs_times_kernel_times_inputs():
    work = macs_of(resnet(GraphMaker(), hw=(32, 64), width=8))
    assert work["n_stem"].macs == 16 * 32 * 8 * 3 * 7 * 7
    assert work["n_fc2"].macs == 160 * 40


def test_groups_and_transposed_convolutions_count_their_own_channels():
    work = macs_of(segmentation(GraphMaker(), hw=(16, 32), width=8))
    assert work["n_dw"].macs == 8 * 16 * 8 * 9  # 8 channels, one input channel each
    assert work["n_up"].macs == 8 * 4 * 8 * 8 * 4  # every input pixel writes 2x2 in 8 channels


@pytest.mark.parametrize("quantised", [False, True])
def test_layers_with_weights_are_told_from_products_of_activations(quantised):
    found = pair(transformer)
    work = macs_of(found.qdq if quantised else found.float_model)
    assert {n for n, w in work.items() if not w.weighted} == {"n_scores", "n_context"}
    assert work["n_q_mm"].quantised is quantised
    assert not work["n_scores"].quantised


def test_an_unnamed_node_is_called_as_tensorrt_calls_it():
    weight = numpy_helper.from_array(np.zeros((4, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [weight],
    )
    assert [(w.node, w.macs) for w in count_macs(helper.make_model(graph))] == [("node_of_y", 24)]


@pytest.mark.parametrize("name", tiny_networks.ALL)
@pytest.mark.parametrize("in_float", [0, 1, 2])
def test_plan_and_graph_count_the_same_share(tmp_path, name, in_float):
    network = made(name)
    graph_module = fold(network, HW)
    layers = quantised_layers(graph_module)
    kept = layers[len(layers) - in_float :]
    if len(kept) == len(layers):
        pytest.skip("nothing would be left to quantise")
    table = calibrate(graph_module, frames(), load_recipe("int8_minmax"), kept)
    work = count_macs(export(described(network), network, table, tmp_path / "m.onnx", "fp16"))
    macs = layer_macs(graph_module)
    assert sum(node.macs for node in work if node.weighted) == sum(macs.values())
    assert quantised_share(work) == pytest.approx(1 - share_of(kept, macs), abs=1e-12)
