"""Small random-weight networks as float and as TensorRT-style Q/DQ ONNX, made without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 19


@dataclass
class GraphMaker:
    """Writes one network either in float (`scales` None) or with explicit Q/DQ.

    `scales` maps the name of a float tensor to its activation step.
    """

    scales: dict[str, float] | None = None
    dtype: type = np.float32
    seed: int = 0
    nodes: list = field(default_factory=list)
    initializers: list = field(default_factory=list)
    quantised: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes) -> str:
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=f"n_{output}", domain=domain, **attributes)
        )
        return output

    def activation(self, x: str) -> str:
        """Q/DQ of a tensor, one pair shared by all its consumers."""
        if self.scales is None:
            return x
        if x not in self.quantised:
            scale = self.constant(f"{x}_scale", self.dtype(self.scales[x]))
            zero = self.constant(f"{x}_zero", np.int8(0))
            self.node("QuantizeLinear", [x, scale, zero], f"{x}_q")
            self.quantised[x] = self.node("DequantizeLinear", [f"{x}_q", scale, zero], f"{x}_dq")
        return self.quantised[x]

    def weight(self, name: str, value: np.ndarray, axis: int) -> str:
        value = value.astype(np.float32)
        if self.scales is None:
            return self.constant(name, value.astype(self.dtype))
        others = tuple(i for i in range(value.ndim) if i != axis)
        scale = (np.abs(value).max(axis=others) / 127).astype(self.dtype).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(value.ndim)]
        levels = np.clip(np.rint(value / scale.reshape(shape)), -127, 127).astype(np.int8)
        self.constant(f"{name}_q", levels)
        self.constant(f"{name}_scale", scale.astype(self.dtype))
        self.constant(f"{name}_zero", np.zeros(len(scale), np.int8))
        return self.node(
            "DequantizeLinear",
            [f"{name}_q", f"{name}_scale", f"{name}_zero"],
            f"{name}_dq",
            axis=axis,
        )

    def conv(
        self,
        x: str,
        name: str,
        cin: int,
        cout: int,
        k: int,
        stride=1,
        relu=False,
        groups=1,
        pad=None,
    ) -> str:
        std = np.sqrt(2 / (cin // groups * k * k))
        w = self.rng.standard_normal((cout, cin // groups, k, k)) * std
        b = (0.1 * self.rng.standard_normal(cout)).astype(self.dtype)
        inputs = [self.activation(x), self.weight(f"{name}_w", w, 0), self.constant(f"{name}_b", b)]
        pad = k // 2 if pad is None else pad
        y = self.node(
            "Conv",
            inputs,
            name,
            kernel_shape=[k, k],
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
        )
        return self.node("Relu", [y], f"{name}_relu") if relu else y

    def deconv(self, x: str, name: str, cin: int, cout: int) -> str:
        w = self.rng.standard_normal((cin, cout, 2, 2)) * np.sqrt(1 / cin)
        b = (0.1 * self.rng.standard_normal(cout)).astype(self.dtype)
        inputs = [self.activation(x), self.weight(f"{name}_w", w, 1), self.constant(f"{name}_b", b)]
        return self.node("ConvTranspose", inputs, name, kernel_shape=[2, 2], strides=[2, 2])

    def gemm(self, x: str, name: str, cin: int, cout: int, relu=False) -> str:
        w = self.rng.standard_normal((cout, cin)) * np.sqrt(2 / cin)
        b = (0.1 * self.rng.standard_normal(cout)).astype(self.dtype)
        inputs = [self.activation(x), self.weight(f"{name}_w", w, 0), self.constant(f"{name}_b", b)]
        y = self.node("Gemm", inputs, name, transB=1)
        return self.node("Relu", [y], f"{name}_relu") if relu else y

    def linear(self, x: str, name: str, cin: int, cout: int) -> str:
        """A torch Linear on a 3-d tensor: weight DQ, Transpose, MatMul, Add."""
        w = self.rng.standard_normal((cout, cin)) * np.sqrt(1 / cin)
        b = (0.1 * self.rng.standard_normal(cout)).astype(self.dtype)
        wt = self.node("Transpose", [self.weight(f"{name}_w", w, 0)], f"{name}_wt", perm=[1, 0])
        y = self.node("MatMul", [self.activation(x), wt], f"{name}_mm")
        return self.node("Add", [self.constant(f"{name}_b", b), y], name)

    def block(self, x: str, name: str, cin: int, cout: int, stride: int = 1) -> str:
        """ResNet's basic block, Q/DQ on the identity operand of the addition only."""
        y = self.conv(x, f"{name}_conv1", cin, cout, 3, stride, relu=True)
        y = self.conv(y, f"{name}_conv2", cout, cout, 3)
        if stride != 1 or cin != cout:
            x = self.conv(x, f"{name}_down", cin, cout, 1, stride)
        y = self.node("Add", [y, self.activation(x)], f"{name}_add")
        return self.node("Relu", [y], f"{name}_out")

    def model(self, x_shape: list[int], outputs: dict[str, list[int]]) -> onnx.ModelProto:
        kind = TensorProto.FLOAT if self.dtype is np.float32 else TensorProto.FLOAT16
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", kind, x_shape)],
            [helper.make_tensor_value_info(k, kind, v) for k, v in outputs.items()],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 9
        return onnx.shape_inference.infer_shapes(model)


def resnet(
    maker: GraphMaker, hw=(32, 64), width=8, blocks=(1, 1, 1), head: int | None = 40
) -> onnx.ModelProto:
    """ResNet stem, residual stages, and UFLD's kind of head: 1x1 convolution, two Gemms."""
    x = maker.conv("image", "stem", 3, width, 7, 2, relu=True)
    x = maker.node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    cin = width
    for stage, count in enumerate(blocks):
        cout = width << stage
        for i in range(count):
            x = maker.block(x, f"s{stage}b{i}", cin, cout, 2 if stage and not i else 1)
            cin = cout
    stride = 4 << (len(blocks) - 1)
    h, w = -(-hw[0] // stride), -(-hw[1] // stride)
    if head is None:
        return maker.model([1, 3, *hw], {x: [1, cin, h, w]})
    x = maker.conv(x, "squeeze", cin, 4, 1)
    shape = maker.constant("flat_shape", np.int64([1, 4 * h * w]))
    x = maker.node("Reshape", [x, shape], "flat")
    x = maker.gemm(x, "fc1", 4 * h * w, 4 * head, relu=True)
    x = maker.gemm(x, "fc2", 4 * head, head)
    return maker.model([1, 3, *hw], {x: [1, head]})


def transformer(maker: GraphMaker, tokens=24, dim=16) -> onnx.ModelProto:
    """Convolution, then one attention layer with a feed-forward, and a linear head."""
    x = maker.conv("image", "embed", 3, dim, 4, 4, relu=True, pad=0)
    x = maker.node("Reshape", [x, maker.constant("seq", np.int64([1, dim, tokens]))], "seq_x")
    x = maker.node("Transpose", [x], "tok", perm=[0, 2, 1])
    q, k, v = (maker.linear(x, n, dim, dim) for n in ("q", "k", "v"))
    kt = maker.node("Transpose", [k], "k_t", perm=[0, 2, 1])
    s = maker.node("MatMul", [q, kt], "scores")
    p = maker.node("Softmax", [s], "probs", axis=-1)
    a = maker.node("MatMul", [p, v], "context")
    a = maker.linear(a, "proj", dim, dim)
    x = maker.node("Add", [x, a], "res1")
    f = maker.node("Relu", [maker.linear(x, "ff1", dim, 4 * dim)], "ff1_relu")
    f = maker.linear(f, "ff2", 4 * dim, dim)
    x = maker.node("Add", [x, f], "res2")
    x = maker.linear(x, "head", dim, 5)
    return maker.model([1, 3, 16, 4 * tokens // 4], {x: [1, tokens, 5]})


def segmentation(maker: GraphMaker, hw=(16, 32), width=8) -> onnx.ModelProto:
    """Depthwise and pointwise convolutions, concat, transposed convolution, sigmoid."""
    x = maker.conv("image", "c1", 3, width, 3, 2, relu=True)
    a = maker.conv(x, "dw", width, width, 3, groups=width, relu=True)
    b = maker.conv(x, "pw", width, width, 1, relu=True)
    x = maker.node("Concat", [a, b], "cat", axis=1)
    if maker.scales is not None:  # one scale for all operands of a concat
        same = max(maker.scales[n] for n in (a, b, "cat"))
        maker.scales.update({a: same, b: same, "cat": same})
    x = maker.conv(x, "c2", 2 * width, width, 3, 2, relu=True)
    x = maker.deconv(x, "up", width, width)
    x = maker.node("Relu", [x], "up_relu")
    x = maker.conv(x, "out", width, 2, 1)
    x = maker.node("Sigmoid", [x], "prob")
    return maker.model([1, 3, *hw], {x: [1, 2, hw[0] // 2, hw[1] // 2]})


@dataclass
class Pair:
    """The float graph, its Q/DQ twin, largest magnitudes of every float tensor, an input."""

    float_model: onnx.ModelProto
    qdq: onnx.ModelProto
    maxima: dict[str, float]
    image: np.ndarray


def pair(
    network: Callable[..., onnx.ModelProto], seed: int = 0, dtype=np.float32, **kwargs
) -> Pair:
    """The network in float, max-range steps of three images, and its Q/DQ twin."""
    float_model = network(GraphMaker(seed=seed), **kwargs)
    shape = [d.dim_value for d in float_model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(seed + 1)
    images = rng.standard_normal((3, *shape)).astype(np.float32)
    maxima = tensor_maxima(float_model, images)
    scales = {k: v / 127 for k, v in maxima.items()}
    qdq = network(GraphMaker(scales=scales, seed=seed, dtype=dtype), **kwargs)
    return Pair(float_model, qdq, maxima, images[0])


def tensor_maxima(model: onnx.ModelProto, images: np.ndarray) -> dict[str, float]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    names = [o for n in model.graph.node for o in n.output]
    probe.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names
    )
    session = ort_session(probe)
    found = {"image": float(np.abs(images).max())}
    for image in images:
        for name, value in zip(names, session.run(None, {"image": image}), strict=True):
            found[name] = max(found.get(name, 1e-6), float(np.abs(value).max()))
    return found


def ort_session(model: onnx.ModelProto, simulate: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if simulate:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return ort_session(model).run(None, {model.graph.input[0].name: image})[0]


def simulate(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    """Every Q and DQ in float: ONNX Runtime's own fusions overflow dead channels' biases."""
    return ort_session(model, simulate=True).run(None, {model.graph.input[0].name: image})[0]
