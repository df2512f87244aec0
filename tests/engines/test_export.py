import dataclasses
import json

import numpy as np
import onnx
import pytest
import tiny_networks
import torch
from onnx import numpy_helper
from tiny_networks import HW, described, frames, made
from torch import nn

from calibrators.calibrate import calibrate
from calibrators.fake_quant import quantised_network
from calibrators.recipe import TensorRecipe
from calibrators.recipe_files import load_recipe
from engines.export import export
from engines.graph_runner import GraphRunner
from engines.lint import lint
from trt_lane.errors import TrtLaneError
from trt_lane.model import get_model, list_families, list_models
from trt_lane.models._checkpoint import load_weights
from trt_lane.models._folded import fold, heads_of
from trt_lane.scales import Scale, ScaleTable

MINMAX = load_recipe("int8_minmax")


def table_of(network, images=None, hw=HW, float_layers=()):
    images = frames() if images is None else images
    return calibrate(fold(network, hw), images, MINMAX, float_layers)


def run(path, images):
    runner = GraphRunner(path, 1)
    rows = [runner(image[None].numpy()) for image in images]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def constants(model):
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def error(found, expected):
    return float(np.square(found - expected).mean() / np.square(expected).mean())


def torch_heads(network, images):
    with torch.no_grad():
        return {k: v.numpy() for k, v in network(images).items()}


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_the_float_graph_computes_what_the_network_computes(tmp_path, name):
    network = made(name)
    model = export(described(network), network, None, tmp_path / "m.onnx")
    found, expected = run(tmp_path / "m.onnx", frames(2)), torch_heads(network, frames(2))
    assert list(found) == list(expected) == [o.name for o in model.graph.output]
    for head, value in expected.items():
        np.testing.assert_allclose(found[head], value, atol=1e-5 * max(1, np.abs(value).max()))
    assert not {n.op_type for n in model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_the_int8_graph_computes_what_the_fake_quantised_network_computes(tmp_path, name):
    network = made(name)
    table = table_of(network)
    model = export(described(network), network, table, tmp_path / "m.onnx")
    expected = torch_heads(quantised_network(fold(network, HW), table), frames(4))
    for head, value in run(tmp_path / "m.onnx", frames(4)).items():
        # A level on the edge between two, after sums in another order, may fall to either side.
        assert error(value, expected[head]) < 1e-5, head
        close = np.abs(value - expected[head]) <= 1e-4 * np.abs(expected[head]).max()
        assert close.mean() > 0.99, head
    assert lint(model) == []


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_weights_are_the_tables_levels_and_no_float_copy_is_left(tmp_path, name):
    network = made(name)
    table = table_of(network)
    model = export(described(network), network, table, tmp_path / "m.onnx")
    held = constants(model)
    for weight, levels in table.rounded.items():
        found = held[f"{weight}_int8"]
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, levels)
        np.testing.assert_array_equal(held[f"{weight}_scale"], table.weights[weight].value)
    shapes = {s for v in table.rounded.values() for s in (v.shape, v.T.shape)}
    copies = [k for k, v in held.items() if v.dtype == np.float32 and v.shape in shapes]
    assert not copies
    used = {i for n in model.graph.node for i in n.input}
    assert held.keys() <= used
    weights = [v for k, v in held.items() if v.dtype == np.int8 and k.endswith("_int8")]
    assert len(weights) == len(table.rounded)


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_tensors_have_the_names_of_the_graph_and_activations_their_scales(tmp_path, name):
    network = made(name)
    table = table_of(network)
    model = export(described(network), network, table, tmp_path / "m.onnx")
    made_names = {o for n in model.graph.node for o in n.output} | {"image"}
    graph_module = fold(network, HW)
    heads = {node.name for node in heads_of(graph_module).values()}
    outputs = {o.name for o in model.graph.output}
    expected = {
        n.name for n in graph_module.graph.nodes if "shape" in n.meta and n.op != "get_attr"
    }
    assert expected - heads - outputs <= made_names
    held = constants(model)
    quantizers = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    found = {n.input[0]: held[n.input[1]] for n in quantizers}
    assert len(found) == len(quantizers) == len(table.sites)
    for site in table.sites:
        scale = found.get(site.tensor, found.get(f"{site.tensor}_inner"))
        if site.tensor not in heads:
            assert scale == table.activations[site.key].value
            assert scale.shape == ()
    all_made = [o for n in model.graph.node for o in n.output]
    assert len(all_made) == len(set(all_made))
    named = [n.name for n in model.graph.node]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", tiny_networks.ALL)
def test_the_fp16_graph_is_typed_and_runs_close_to_the_fp32_one(tmp_path, name):
    network = made(name)
    table = table_of(network)
    model = export(described(network), network, table, tmp_path / "half.onnx", "fp16")
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    expected = torch_heads(quantised_network(fold(network, HW), table), frames(4))
    float_heads = torch_heads(network, frames(4))
    for head, value in run(tmp_path / "half.onnx", frames(4)).items():
        # FP16 flips levels at their edges: at most about as much again as INT8 itself costs.
        assert error(value, expected[head]) <= error(expected[head], float_heads[head]) + 1e-6
    assert lint(model) == []


@pytest.mark.parametrize("float_type", ["fp32", "fp16"])
def test_the_float_graph_of_every_structure_exports_in_both_types(tmp_path, float_type):
    for name in tiny_networks.ALL:
        network = made(name)
        export(described(network), network, None, tmp_path / "m.onnx", float_type)
        expected = torch_heads(network, frames(2))
        for head, value in run(tmp_path / "m.onnx", frames(2)).items():
            assert error(value, expected[head]) < 1e-5, (name, head)


def test_a_head_named_like_a_layer_is_the_head():
    network = made("heads")
    assert "first" in {n.name for n in fold(network, HW).graph.nodes}


class Loud(nn.Module):
    """Tensors near and far beyond FP16's limit in the middle, and in a head."""

    def __init__(self, gain):
        super().__init__()
        self.stem, self.wide, self.out = (nn.Conv2d(i, 4, 3, 1, 1) for i in (3, 4, 4))
        self.gain = gain

    def forward(self, x):
        loud = self.wide(torch.relu(self.stem(x)) * self.gain)
        return {"out": self.out(torch.relu(loud)) / self.gain, "loud": loud}


def test_tensors_beyond_fp16s_range_stay_in_fp32_and_are_named(tmp_path):
    torch.manual_seed(0)
    network = Loud(200_000.0).eval()
    table = table_of(network)
    model = export(described(network), network, table, tmp_path / "m.onnx", "fp16")
    told = next(p.value for p in model.metadata_props if p.key == "fp32_nodes")
    assert "mul: |mul| reaches" in told
    expected = torch_heads(network, frames(4))
    for head, value in run(tmp_path / "m.onnx", frames(4)).items():
        assert np.isfinite(value).all()
        assert error(value, expected[head]) < 5e-3


def test_tiny_steps_survive(tmp_path):
    network = made("chain")
    network.conv2.weight.data *= 1e-7
    table = table_of(network)
    for float_type in ("fp32", "fp16"):
        model = export(described(network), network, table, tmp_path / "m.onnx", float_type)
        for value in run(tmp_path / "m.onnx", frames(2)).values():
            assert np.isfinite(value).all()
        assert lint(model) == []


def test_equal_weights_of_two_layers_leave_no_float_copy(tmp_path):
    network = made("residual")
    network.conv2.load_state_dict(network.conv1.state_dict())
    model = export(described(network), network, table_of(network), tmp_path / "m.onnx")
    assert max(v.size for v in constants(model).values() if v.dtype == np.float32) <= 6
    assert lint(model) == []


def test_float_layers_keep_float_weights_and_inputs(tmp_path):
    network = made("residual")
    table = table_of(network, float_layers=("conv1", "out"))
    model = export(described(network), network, table, tmp_path / "m.onnx")
    held = constants(model)
    assert sorted(k for k in held if k.endswith("_int8")) == [
        "conv2.weight_int8",
        "stem.weight_int8",
    ]
    assert lint(model) == []


def test_a_batch_of_frames_is_computed_frame_by_frame(tmp_path):
    network = made("downsample")
    table = table_of(network)
    model = export(described(network), network, table, tmp_path / "two.onnx", batch=2)
    export(described(network), network, table, tmp_path / "one.onnx")
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 2
    both = GraphRunner(tmp_path / "two.onnx", 1)(frames(2).numpy())["out"]
    np.testing.assert_allclose(both, run(tmp_path / "one.onnx", frames(2))["out"], atol=1e-5)


def test_the_file_is_the_same_every_time(tmp_path):
    network = made("transformer")
    table = table_of(network)
    for name in ("a", "b"):
        export(described(network), network, table, tmp_path / name, "fp16")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_network_is_left_as_it_was(tmp_path):
    network = made("transformer")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    export(described(network), network, table_of(network), tmp_path / "m.onnx")
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_description_travels_in_the_file(tmp_path):
    network = made("chain")
    table = table_of(network)
    export(described(network), network, table, tmp_path / "m.onnx", "fp16")
    model = onnx.load(tmp_path / "m.onnx")
    text = next(p.value for p in model.metadata_props if p.key == "trt_lane")
    facts = json.loads(text)
    assert facts["scales"] == table.digest()
    assert facts["recipe"] == "int8_minmax"
    assert facts["heads"] == [{"name": "out", "shape": [4, *HW], "semantics": "numbers"}]


def refused(tmp_path, network, table, message):
    path = tmp_path / "m.onnx"
    with pytest.raises(TrtLaneError, match=message):
        export(described(network), network, table, path)
    assert not path.exists()


def test_a_table_of_another_network_is_refused(tmp_path):
    refused(tmp_path, made("chain"), table_of(made("residual")), "of another network")


def test_a_table_of_other_weights_is_refused(tmp_path):
    refused(tmp_path, made("chain", seed=1), table_of(made("chain")), "made for other weights")


def test_a_table_of_other_sizes_is_refused(tmp_path):
    table = table_of(made("chain"))
    rounded = table.rounded | {"conv2.weight": table.rounded["conv2.weight"][:, :3]}
    refused(tmp_path, made("chain"), dataclasses.replace(table, rounded=rounded), "another network")


def test_a_table_of_low_bits_is_refused(tmp_path):
    recipe = dataclasses.replace(MINMAX, weights=TensorRecipe(bits=4))
    network = made("residual")
    table = calibrate(fold(network, HW), frames(), recipe)
    refused(tmp_path, network, table, "2 tensors have less than 8 bits.*simulations")


def test_heads_that_the_description_does_not_name_are_refused(tmp_path):
    network = made("chain")
    model = described(made("heads"))
    with pytest.raises(TrtLaneError, match=r"gives heads \['out'\]; its description names"):
        export(model, network, None, tmp_path / "m.onnx")


def test_a_table_survives_its_file_on_the_way_to_export(tmp_path):
    network = made("decoder")
    table = table_of(network)
    table.save(tmp_path / "scales.npz")
    loaded = ScaleTable.load(tmp_path / "scales.npz")
    for name, scales in (("a", table), ("b", loaded)):
        export(described(network), network, scales, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert isinstance(loaded.activations["image"], Scale)


def signed_noise(image, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, *image.input_hw, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize("family", list_families())
def test_every_family_exports_in_int8_without_findings(tmp_path, family):
    torch.manual_seed(0)
    model = get_model(next(n for n in list_models() if n.partition(".")[0] == family))
    network = model.build()
    table = calibrate(fold(network, model.image.input_hw), signed_noise(model.image, 1), MINMAX)
    for float_type in ("fp32", "fp16"):
        exported = export(model, network, table, tmp_path / "m.onnx", float_type)
        assert lint(exported) == []
        assert len(table.rounded) == sum(
            i.name.endswith("_int8") for i in exported.graph.initializer
        )


@pytest.mark.slow
def test_real_weights_agree_between_torch_and_the_file(tmp_path, shared):
    model = get_model("lstr.tusimple")
    network = model.build()
    load_weights(model, network, shared / "weights" / "lstr_tusimple.pkl")
    images = signed_noise(model.image, 2)
    export(model, network, None, tmp_path / "float.onnx")
    expected = torch_heads(network, images)
    for head, value in run(tmp_path / "float.onnx", images).items():
        np.testing.assert_allclose(value, expected[head], atol=1e-5 * np.abs(expected[head]).max())
    table = calibrate(fold(network, model.image.input_hw), images, MINMAX, model.float_layers)
    simulated = torch_heads(quantised_network(fold(network, model.image.input_hw), table), images)
    for float_type in ("fp32", "fp16"):
        exported = export(model, network, table, tmp_path / "int8.onnx", float_type)
        assert lint(exported) == []
        for head, value in run(tmp_path / "int8.onnx", images).items():
            # Flipped levels cost at most what quantisation itself costs (TENSORRT.md, rule 9).
            limit = error(simulated[head], expected[head])
            assert error(value, simulated[head]) <= limit, (float_type, head)
