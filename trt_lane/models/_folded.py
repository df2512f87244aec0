"""The network as calibration and export both see it: one flat graph, BN folded, nodes named.

A tensor is called by its graph node ("model_layer1_0_conv1") in scale tables, reports and the ONNX;
a weight by its module ("model.layer1.0.conv1.weight"), as in the checkpoint.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INPUT = "image"  # name of the input's node
_INERT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def fold(module: nn.Module, input_hw: tuple[int, int]) -> fx.GraphModule:
    """The eval-mode network as a flat graph for inputs (N, 3, h, w).

    Functions of parameters alone become constants, functional layers become modules, batch norms go
    into the layer before them, dropout disappears. Every node that holds a float tensor gets
    `meta["shape"]`, its shape for N = 1. The graph's own `meta["weights"]` is the digest of the
    weights before all that. The module's weights are left as they are; it goes to eval mode.
    """
    graph_module = fx.symbolic_trace(module.eval())
    graph_module.meta["weights"] = weights_digest(module)
    with torch.no_grad():
        _fold_constants(graph_module)
        _functional_to_modules(graph_module)
        _copy_weighted(graph_module)
        if any(isinstance(m, nn.BatchNorm1d) for m in graph_module.modules()):
            Shapes(graph_module).run(torch.zeros(1, 3, *input_hw))
        _fold_batch_norms(graph_module)
        _drop_inert(graph_module)
        next(n for n in graph_module.graph.nodes if n.op == "placeholder").name = INPUT
        graph_module.graph.eliminate_dead_code()
        graph_module.delete_all_unused_submodules()
        graph_module.graph.lint()
        graph_module.recompile()
        Shapes(graph_module).run(torch.zeros(1, 3, *input_hw))
    return graph_module.eval()


class Shapes(fx.Interpreter):
    """Writes the shape of every float tensor into its node's meta."""

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and note its shape."""
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point():
            n.meta["shape"] = tuple(value.shape)
        return value


def heads_of(graph_module: fx.GraphModule) -> dict[str, fx.Node]:
    """Head name -> node that makes it."""
    output = next(n for n in graph_module.graph.nodes if n.op == "output")
    return dict(output.args[0])


def weighted_module(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The convolution or linear layer that a node calls, or None."""
    if node.op != "call_module":
        return None
    module = graph_module.get_submodule(node.target)
    return module if isinstance(module, WEIGHTED) else None


def weights_digest(module: nn.Module) -> str:
    """sha256 of a network's weights: of what a checkpoint holds, so equal on every machine.

    A part whose outputs depend on more files than the checkpoint has `beyond_checkpoint()`, a dict
    of integer tensors that counts, too. Its buffers alone would not do: what they are computed to
    differs in the last bit from machine to machine.
    """
    sha = hashlib.sha256()
    values = dict(module.state_dict())
    for path, part in module.named_modules():
        if hasattr(part, "beyond_checkpoint"):
            values |= {f"{path}|{name}": value for name, value in part.beyond_checkpoint().items()}
    for name, value in sorted(values.items()):
        if not name.endswith("num_batches_tracked"):
            sha.update(f"{name}|{tuple(value.shape)}|{value.dtype}|".encode())
            sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _fold_constants(graph_module: fx.GraphModule) -> None:
    """Replace what depends on no input by one buffer."""
    graph = graph_module.graph
    values: dict[fx.Node, Any] = {}
    interpreter = fx.Interpreter(graph_module)
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op != "get_attr" and (
            not node.all_input_nodes or any(i not in values for i in node.all_input_nodes)
        ):
            continue
        interpreter.env = values
        values[node] = interpreter.run_node(node)
    for node, value in values.items():
        if node.op == "get_attr" or all(user in values for user in node.users):
            continue
        if isinstance(value, Tensor):
            name = f"_constant_{node.name}"
            graph_module.register_buffer(name, value.detach().clone(), persistent=False)
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(name))
        elif not isinstance(value, (tuple, list)):
            node.replace_all_uses_with(value)
    graph.eliminate_dead_code()


def _functional_to_modules(graph_module: fx.GraphModule) -> None:
    """F.linear, F.conv2d and x @ W with constant weights become modules that own them."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        maker = _FUNCTIONAL.get(node.target) if node.op == "call_function" else None
        if maker is None:
            continue
        layer = maker(graph_module, node)
        if layer is None:
            continue
        name = f"{node.name}_layer"
        graph_module.add_submodule(name, layer)
        with graph.inserting_before(node):
            call = graph.call_module(name, (_arguments(node, ("input",), (None,))[0],))
        node.replace_all_uses_with(call)
        graph.erase_node(node)
        call.name = node.name


def _constant(graph_module: fx.GraphModule, value: Any) -> Tensor | None:
    """The tensor behind a get_attr node."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    found: Any = graph_module
    for atom in value.target.split("."):
        found = getattr(found, atom)
    return found if isinstance(found, Tensor) else None


def _arguments(node: fx.Node, names: tuple[str, ...], defaults: tuple) -> list:
    """Arguments of a functional layer in order, wherever they were passed."""
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return [given.get(n, d) for n, d in zip(names, defaults, strict=True)]


def _linear_from(graph_module: fx.GraphModule, node: fx.Node) -> nn.Linear | None:
    _, weight, given_bias = _arguments(node, ("input", "weight", "bias"), (None,) * 3)
    weight, bias = _constant(graph_module, weight), _constant(graph_module, given_bias)
    if weight is None or (bias is None and given_bias is not None):
        return None
    return _own(nn.Linear(1, 1, bias is not None), weight, bias)


def _matmul_from(graph_module: fx.GraphModule, node: fx.Node) -> nn.Linear | None:
    weight = _constant(graph_module, node.args[1]) if len(node.args) == 2 else None
    if weight is None or weight.ndim != 2 or not isinstance(node.args[0], fx.Node):
        return None
    return _own(nn.Linear(1, 1, bias=False), weight.t().contiguous(), None)


def _conv2d_from(graph_module: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    _, weight, given_bias, stride, padding, dilation, groups = _arguments(
        node, names, (None, None, None, 1, 0, 1, 1)
    )
    weight, bias = _constant(graph_module, weight), _constant(graph_module, given_bias)
    if weight is None or (bias is None and given_bias is not None):
        return None
    inputs, outputs = weight.shape[1] * groups, weight.shape[0]
    layer = nn.Conv2d(
        inputs,
        outputs,
        tuple(weight.shape[2:]),
        stride,
        padding,
        dilation,
        groups,
        bias is not None,
    )
    return _own(layer, weight, bias)


_FUNCTIONAL: dict[Callable, Callable] = {
    F.linear: _linear_from,
    F.conv2d: _conv2d_from,
    torch.conv2d: _conv2d_from,
    torch.matmul: _matmul_from,
    operator.matmul: _matmul_from,
}


def _own(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    return layer.eval()


def _copy_weighted(graph_module: fx.GraphModule) -> None:
    """Give every call its own layer, apart from the caller's module; shared weights stay shared.

    A layer that is called twice (weights shared over positions) keeps one copy.
    """
    copies: dict[str, nn.Module] = {}
    for node in graph_module.graph.nodes:
        if node.op != "call_module" or node.target in copies:
            continue
        module = graph_module.get_submodule(node.target)
        if isinstance(module, WEIGHTED):
            copies[node.target] = _shallow_copy(module)
    for target, module in copies.items():
        parent, _, name = target.rpartition(".")
        owner = graph_module.get_submodule(parent) if parent else graph_module
        setattr(owner, name, module)


def _shallow_copy(module: nn.Module) -> nn.Module:
    copied = module.__class__.__new__(module.__class__)
    copied.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in vars(module).items()}
    for name, parameter in module._parameters.items():
        if parameter is not None:
            copied._parameters[name] = nn.Parameter(parameter.detach().clone())
    return copied


def _fold_batch_norms(graph_module: fx.GraphModule) -> None:
    """Fold y = BN(layer(x)) into the layer wherever nothing else reads layer(x)."""
    graph = graph_module.graph
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        norm = graph_module.get_submodule(node.target)
        before = node.args[0] if node.args else None
        if not isinstance(norm, BATCH_NORMS) or not isinstance(before, fx.Node):
            continue
        layer = weighted_module(graph_module, before)
        if layer is None or len(before.users) > 1 or calls[before.target] > 1:
            continue
        if norm.running_mean is None or (isinstance(layer, nn.Linear) and not _is_flat(before)):
            continue
        _fold_one(layer, norm)
        node.replace_all_uses_with(before)
        graph.erase_node(node)


def _fold_one(layer: nn.Module, norm: nn.Module) -> None:
    numbers = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(layer.weight, layer.bias, *numbers)
    else:
        transposed = isinstance(layer, TRANSPOSED)
        original = layer.weight
        if transposed and layer.groups > 1:  # (in, out / groups, ...), and torch forgets the groups
            original = _with_all_outputs(original, layer.groups)
        weight, bias = fuse_conv_bn_weights(original, layer.bias, *numbers, transposed)
        if transposed and layer.groups > 1:
            weight = _with_outputs_of_group(weight, layer.groups)
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())


def _is_flat(node: fx.Node) -> bool:
    """Whether a linear layer's result is (N, features): BatchNorm1d of (N, C, L) is over C."""
    return len(node.meta["shape"]) == 2


def _with_all_outputs(weight: Tensor, groups: int) -> Tensor:
    """(in, out / groups, ...) of a grouped transposed convolution to (in / groups, out, ...)."""
    parts = weight.unflatten(0, (groups, -1))
    return parts.transpose(0, 1).flatten(1, 2)


def _with_outputs_of_group(weight: Tensor, groups: int) -> Tensor:
    """The inverse of `_with_all_outputs`."""
    return weight.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)


def _drop_inert(graph_module: fx.GraphModule) -> None:
    graph = graph_module.graph
    for node in list(graph.nodes):
        inert_module = node.op == "call_module" and isinstance(
            graph_module.get_submodule(node.target), _INERT
        )
        inert_call = node.target in (F.dropout, F.dropout2d, "contiguous") and node.op != "get_attr"
        if inert_module or inert_call:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
