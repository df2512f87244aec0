from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from qdq_graphs import pair, resnet, segmentation, transformer

from engines.lint import lint, lint_file
from trt_lane.errors import TrtLaneError


class Editor:
    """Small changes of a Q/DQ graph by node and constant names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph

    def node(self, name: str) -> onnx.NodeProto:
        return next(n for n in self.graph.node if n.name == name)

    def value(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(next(i for i in self.graph.initializer if i.name == name))

    def put(self, name: str, value: np.ndarray) -> str:
        for proto in self.graph.initializer:
            if proto.name == name:
                proto.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
                return name
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def insert(self, before: str, *nodes: onnx.NodeProto) -> None:
        position = [n.name for n in self.graph.node].index(before)
        everything = [*self.graph.node]
        everything[position:position] = nodes
        del self.graph.node[:]
        self.graph.node.extend(everything)

    def quantise(self, tensor: str, before: str, scale: float, prefix: str) -> str:
        """A Q/DQ pair on a tensor, in front of a node; gives the DQ's output."""
        step, zero = self.put(f"{prefix}_s", np.float32(scale)), self.put("zero", np.int8(0))
        self.insert(
            before,
            helper.make_node(
                "QuantizeLinear", [tensor, step, zero], [f"{prefix}_q"], f"{prefix}_Q"
            ),
            helper.make_node(
                "DequantizeLinear", [f"{prefix}_q", step, zero], [f"{prefix}_dq"], f"{prefix}_DQ"
            ),
        )
        return f"{prefix}_dq"


NETWORKS = {"resnet": resnet, "transformer": transformer, "segmentation": segmentation}


@pytest.fixture(scope="module")
def clean() -> dict[str, onnx.ModelProto]:
    return {name: pair(network).qdq for name, network in NETWORKS.items()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_clean_graph_has_no_findings(name, dtype):
    assert lint(pair(NETWORKS[name], dtype=dtype).qdq) == []


def test_a_float_graph_has_no_findings():
    assert lint(pair(resnet).float_model) == []


def per_channel_activation(e: Editor) -> None:
    e.put("image_scale", np.float32([0.1, 0.2, 0.3]))
    e.put("image_zero", np.zeros(3, np.int8))


def activation_scale_of_one_element(e: Editor) -> None:
    e.put("image_scale", np.float32([0.1]))


def conv_axis(e: Editor) -> None:
    e.node("n_s1b0_conv1_w_dq").attribute[0].i = 1
    inputs = e.value("s1b0_conv1_w_q").shape[1]
    e.put("s1b0_conv1_w_scale", np.full(inputs, 0.01, np.float32))
    e.put("s1b0_conv1_w_zero", np.zeros(inputs, np.int8))


def conv_axis_from_the_end(e: Editor) -> None:
    conv_axis(e)
    e.node("n_s1b0_conv1_w_dq").attribute[0].i = -3


def gemm_axis(e: Editor) -> None:
    levels = e.value("fc1_w_q")
    e.node("n_fc1_w_dq").attribute[0].i = 1
    e.put("fc1_w_scale", np.full(levels.shape[1], 0.01, np.float32))
    e.put("fc1_w_zero", np.zeros(levels.shape[1], np.int8))


def untransposed_gemm_axis(e: Editor) -> None:
    e.put("fc1_w_q", e.value("fc1_w_q").T.copy())  # now (in, out), its scales still on axis 0
    e.node("n_fc1").attribute[0].i = 0


def scales_for_another_number_of_channels(e: Editor) -> None:
    e.put("stem_w_scale", np.full(5, 0.01, np.float32))
    e.put("stem_w_zero", np.zeros(5, np.int8))


def matmul_axis_behind_transpose(e: Editor) -> None:
    levels = e.value("ff1_w_q")
    e.node("n_ff1_w_dq").attribute[0].i = 1
    e.put("ff1_w_scale", np.full(levels.shape[1], 0.01, np.float32))
    e.put("ff1_w_zero", np.zeros(levels.shape[1], np.int8))


def matmul_axis_without_transpose(e: Editor) -> None:
    e.put("ff1_w_q", e.value("ff1_w_q").T.copy())
    e.node("n_ff1_mm").input[1] = "ff1_w_dq"  # axis 0 is the inputs now


def deconv_axis(e: Editor) -> None:
    e.node("n_up_w_dq").attribute[0].i = 0


def float_weight_quantised_on_the_wrong_axis(e: Editor) -> None:
    levels = e.value("stem_w_q")
    e.put("stem_float", levels.astype(np.float32) * 0.01)
    e.put("stem_w_scale", np.full(3, 0.01, np.float32))
    e.put("stem_w_zero", np.zeros(3, np.int8))
    q = helper.make_node(
        "QuantizeLinear", ["stem_float", "stem_w_scale", "stem_w_zero"], ["stem_q"], "Q", axis=1
    )
    e.insert("n_stem_w_dq", q)
    e.node("n_stem_w_dq").input[0] = "stem_q"
    e.node("n_stem_w_dq").attribute[0].i = 1


def zero_point_3(e: Editor) -> None:
    e.put("image_zero", np.int8(3))


def unsigned(e: Editor) -> None:
    e.put("image_zero", np.uint8(128))


def no_zero_point(e: Editor) -> None:
    for name in ("n_image_q", "n_image_dq"):
        del e.node(name).input[2]


def unsigned_weight(e: Editor) -> None:
    e.put("stem_w_q", (e.value("stem_w_q").astype(np.int16) + 128).astype(np.uint8))
    del e.node("n_stem_w_dq").input[2]


def bare_residual(e: Editor) -> None:
    add = e.node("n_s0b0_add")
    quantizer = next(n for n in e.graph.node if n.output[0] == add.input[1])
    step = next(n for n in e.graph.node if n.output[0] == quantizer.input[0])
    add.input[1] = step.input[0]


def both_residual_operands(e: Editor) -> None:
    tensor = e.node("n_s0b0_add").input[0]
    quantised = e.quantise(tensor, "n_s0b0_add", 0.05, "extra")
    e.node("n_s0b0_add").input[0] = quantised


def unequal_concat(e: Editor) -> None:
    quantise_concat(e, 0.5, 0.25)


def bare_concat_operand(e: Editor) -> None:
    quantise_concat(e, 0.5, 0.5)
    e.node("n_cat").input[1] = "pw_relu"


def quantise_concat(e: Editor, *scales: float) -> None:
    operands = [
        e.quantise(name, "n_cat", scale, f"operand_{i}")
        for i, (name, scale) in enumerate(zip(("dw_relu", "pw_relu"), scales, strict=True))
    ]
    e.node("n_cat").input[:] = operands


def scale_of(value: float) -> Callable[[Editor], None]:
    def plant(e: Editor) -> None:
        e.put("image_scale", np.float32(value))

    plant.__name__ = f"scale_{value}"
    return plant


def empty_scale(e: Editor) -> None:
    e.put("stem_w_scale", np.zeros(0, np.float32))


def computed_scale(e: Editor) -> None:
    e.insert("n_image_q", helper.make_node("ReduceMax", ["image"], ["top"], "Top", keepdims=0))
    e.node("n_image_q").input[1] = e.node("n_image_dq").input[1] = "top"


def float_weight(e: Editor) -> None:
    levels = e.value("stem_w_q")
    e.node("n_stem").input[1] = e.put("stem_float", levels.astype(np.float32))


def float_weight_behind_transpose(e: Editor) -> None:
    e.put("ff1_float", e.value("ff1_w_q").astype(np.float32))
    e.node("n_ff1_wt").input[0] = "ff1_float"


def float_input(e: Editor) -> None:
    e.node("n_stem").input[0] = "image"


def quantised_bias(e: Editor) -> None:
    bias = e.put("bias_levels", np.int32([3] * 8))
    zero = e.put("bias_zero", np.int32(0))
    scale = e.put("bias_scale", np.float32(0.001))
    e.insert(
        "n_stem", helper.make_node("DequantizeLinear", [bias, scale, zero], ["bias_dq"], "Bias")
    )
    e.node("n_stem").input[2] = "bias_dq"


def two_scales(e: Editor) -> None:
    quantised = e.quantise("pool", "n_s0b0_add", 0.9, "extra")
    e.node("n_s0b0_add").input[1] = quantised


def unequal_pair(e: Editor) -> None:
    e.put("other", np.float32(0.5))
    e.node("n_image_dq").input[1] = "other"


BREACHES = {
    per_channel_activation: ("resnet", "activation-per-tensor"),
    activation_scale_of_one_element: ("resnet", "activation-per-tensor"),
    conv_axis: ("resnet", "weight-axis"),
    conv_axis_from_the_end: ("resnet", "weight-axis"),
    gemm_axis: ("resnet", "weight-axis"),
    untransposed_gemm_axis: ("resnet", "weight-axis"),
    scales_for_another_number_of_channels: ("resnet", "weight-axis"),
    matmul_axis_behind_transpose: ("transformer", "weight-axis"),
    matmul_axis_without_transpose: ("transformer", "weight-axis"),
    deconv_axis: ("segmentation", "weight-axis"),
    float_weight_quantised_on_the_wrong_axis: ("resnet", "weight-axis"),
    zero_point_3: ("resnet", "zero-point"),
    unsigned: ("resnet", "zero-point"),
    no_zero_point: ("resnet", "zero-point"),
    unsigned_weight: ("resnet", "zero-point"),
    bare_residual: ("resnet", "residual-identity"),
    both_residual_operands: ("resnet", "residual-identity"),
    unequal_concat: ("segmentation", "concat-scales"),
    bare_concat_operand: ("segmentation", "concat-scales"),
    scale_of(0.0): ("resnet", "scale-positive"),
    scale_of(-0.1): ("resnet", "scale-positive"),
    scale_of(float("nan")): ("resnet", "scale-positive"),
    scale_of(float("inf")): ("resnet", "scale-positive"),
    empty_scale: ("resnet", "scale-positive"),
    computed_scale: ("resnet", "scale-constant"),
    float_weight: ("resnet", "layer-half-quantised"),
    float_weight_behind_transpose: ("transformer", "layer-half-quantised"),
    float_input: ("resnet", "layer-half-quantised"),
    quantised_bias: ("resnet", "bias-float"),
    two_scales: ("resnet", "one-scale"),
    unequal_pair: ("resnet", "pair-scales"),
}


@pytest.mark.parametrize("plant", BREACHES, ids=lambda plant: plant.__name__)
def test_every_breach_is_found_and_explained(clean, plant):
    network, rule = BREACHES[plant]
    editor = Editor(clean[network])
    plant(editor)
    findings = lint(editor.model)
    assert rule in {f.rule for f in findings}
    assert all(len(f.message) > 20 and f.node for f in findings)


@pytest.mark.parametrize("step", [1e-7, 6e-8])
def test_a_step_too_small_for_fp16_is_found(step):
    editor = Editor(pair(resnet, dtype=np.float16).qdq)
    editor.put("image_scale", np.float16(step))
    assert {f.rule for f in lint(editor.model)} == {"fp16-scale"}


def test_a_scale_of_another_type_than_its_input_is_found(clean):
    editor = Editor(clean["resnet"])
    editor.insert(
        "n_image_q", helper.make_node("Cast", ["image"], ["half"], "Half", to=TensorProto.FLOAT16)
    )
    editor.node("n_image_q").input[0] = "half"
    assert "scale-type" in {f.rule for f in lint(editor.model)}


def test_layers_with_other_layouts_of_their_weights_are_not_reproached(clean):
    editor = Editor(clean["resnet"])
    editor.put("fc1_w_q", editor.value("fc1_w_q").T.copy())
    editor.node("n_fc1_w_dq").attribute[0].i = 1
    editor.node("n_fc1").attribute[0].i = 0  # transB = 0: (in, out), scales on axis 1
    assert lint(editor.model) == []
    editor = Editor(clean["transformer"])
    editor.put("ff1_w_q", editor.value("ff1_w_q").T.copy())
    editor.node("n_ff1_w_dq").attribute[0].i = 1
    editor.node("n_ff1_mm").input[1] = "ff1_w_dq"
    assert lint(editor.model) == []


def test_a_gemm_that_transposes_a_transposed_weight_is_not_reproached(clean):
    editor = Editor(clean["resnet"])
    editor.put("fc1_w_q", editor.value("fc1_w_q").T.copy())
    editor.node("n_fc1_w_dq").attribute[0].i = 1
    turned = helper.make_node("Transpose", ["fc1_w_dq"], ["turned"], "Turned", perm=[1, 0])
    editor.insert("n_fc1", turned)
    editor.node("n_fc1").input[1] = "turned"  # transB stays 1
    assert lint(editor.model) == []


def test_a_float_weight_behind_q_and_dq_is_a_weight(clean):
    editor = Editor(clean["resnet"])
    levels, step = editor.value("stem_w_q"), editor.value("stem_w_scale")
    editor.put("stem_float", levels * step.reshape(-1, 1, 1, 1))
    inputs = ["stem_float", "stem_w_scale", "stem_w_zero"]
    editor.insert("n_stem_w_dq", helper.make_node("QuantizeLinear", inputs, ["s_q"], "Q", axis=0))
    editor.node("n_stem_w_dq").input[0] = "s_q"
    assert lint(editor.model) == []


def test_a_convolution_that_is_also_a_head_does_not_fuse_with_an_addition(clean):
    editor = Editor(clean["resnet"])
    add = editor.node("n_s0b0_add")
    bare_residual(editor)
    editor.graph.output.append(helper.make_tensor_value_info(add.input[0], TensorProto.FLOAT, None))
    assert "residual-identity" not in {f.rule for f in lint(editor.model)}


def test_an_addition_that_broadcasts_needs_no_quantised_operand(clean):
    editor = Editor(clean["resnet"])
    bare_residual(editor)
    identity = editor.node("n_s0b0_add").input[1]
    editor.insert(
        "n_s0b0_add", helper.make_node("GlobalAveragePool", [identity], ["pooled"], "Pooled")
    )
    editor.node("n_s0b0_add").input[1] = "pooled"
    assert lint(editor.model) == []


def test_operands_of_a_concat_with_one_scale_are_not_reproached(clean):
    editor = Editor(clean["segmentation"])
    quantise_concat(editor, 0.5, 0.5)
    assert lint(editor.model) == []


def test_files_that_are_no_models_are_errors_to_mend(tmp_path):
    with pytest.raises(TrtLaneError, match="no ONNX file"):
        lint_file(tmp_path / "nothing.onnx")
    for content in (b"", b"hello", b"\x08\x09" * 50):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(TrtLaneError, match="not a valid ONNX model"):
            lint_file(tmp_path / "m.onnx")
    with pytest.raises(TrtLaneError):
        lint_file(tmp_path)


def test_a_file_is_linted_like_its_model(tmp_path, clean):
    editor = Editor(clean["segmentation"])
    unequal_concat(editor)
    onnx.save(editor.model, tmp_path / "m.onnx")
    assert lint_file(tmp_path / "m.onnx") == lint(editor.model) != []
