"""A network and its ScaleTable to an explicit Q/DQ ONNX whose tensors carry the graph's names."""

from __future__ import annotations

import copy
import io
import json
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from engines.constants import fold_constants
from engines.qdq import DOMAIN, resolve_markers
from engines.typed import to_float_type
from trt_lane.decoders import decoder_to_dict
from trt_lane.errors import TrtLaneError
from trt_lane.files import write_bytes
from trt_lane.model import LaneModel
from trt_lane.models._equalised import channel_counts, equalised
from trt_lane.models._folded import (
    BATCH_NORMS,
    INPUT,
    WEIGHTED,
    fold,
    heads_of,
    weighted_module,
)
from trt_lane.scales import ScaleTable

DESCRIPTION = "trt_lane"  # key of the metadata entry
OPSET = 19  # the first whose QuantizeLinear takes FP16


def export(
    model: LaneModel,
    network: nn.Module,
    table: ScaleTable | None,
    path: Path,
    float_type: str = "fp32",
    batch: int = 1,
) -> onnx.ModelProto:
    """Write the ONNX of a float network, or of its INT8 form when a table is given.

    Args:
        model: names, heads and geometry.
        network: the float torch module with its weights.
        table: scales, or None for the float graph.
        path: file to write, atomically.
        float_type: "fp32", or "fp16" for what is not INT8 (overflow-prone parts stay FP32).
        batch: frames per inference; fixed, as all shapes are.

    Raises:
        TrtLaneError: the table belongs to another network or asks for less than 8 bits.
    """
    graph_module = fold(network, model.image.input_hw)
    if table is not None:
        _check_table(graph_module, table)
        graph_module = equalised(graph_module, table.equalised)
        for name, bias in table.biases.items():
            layer = graph_module.get_submodule(name.rpartition(".")[0])
            layer.bias = nn.Parameter(torch.from_numpy(bias.copy()), requires_grad=False)
    exported = _export_marked(graph_module, table, model, batch)
    names = resolve_markers(exported, table)
    sites = _quantizers(exported, table, names) if table else {}
    fold_constants(exported)
    maxima = {names[k]: v for k, v in table.maxima.items() if k in names} if table else {}
    exported = to_float_type(exported, float_type, maxima)
    exported.producer_name = "trt_lane"
    description = exported.metadata_props.add()
    description.key = DESCRIPTION
    description.value = json.dumps({**describe(model, table, float_type), "sites": sites})
    _name_shapes(exported, model, batch)
    onnx.checker.check_model(exported, full_check=True)
    write_bytes(path, exported.SerializeToString(deterministic=True))
    return exported


def describe(model: LaneModel, table: ScaleTable | None, float_type: str) -> dict:
    """What later stages must know and cannot see in the graph; travels in the ONNX's metadata."""
    return {
        "model": model.name,
        "metric": model.metric.value,
        "image": model.image.to_dict(),
        "decoder": decoder_to_dict(model.decoder),
        "heads": [
            {"name": h.name, "shape": list(h.shape), "semantics": h.semantics} for h in model.heads
        ],
        "float_type": float_type,
        "recipe": table.info.get("recipe") if table else None,
        "plan": table.info.get("plan") if table else None,
        "scales": table.digest() if table else None,
        "digests": table.digests if table else {},
    }


def _quantizers(
    exported: onnx.ModelProto, table: ScaleTable, names: dict[str, str]
) -> dict[str, str]:
    """What each site's QuantizeLinear puts out, by the site's graph node: verify looks there."""
    makes = {
        node.input[0]: node.output[0]
        for node in exported.graph.node
        if node.op_type == "QuantizeLinear"
    }
    found = {site.tensor: makes.get(names.get(site.tensor, site.tensor)) for site in table.sites}
    return {tensor: output for tensor, output in found.items() if output is not None}


class _Mark(torch.autograd.Function):
    """An identity that becomes a node of our own domain in the ONNX."""

    @staticmethod
    def forward(ctx: object, x: Tensor, kind: str, name: str) -> Tensor:
        """Pass x through."""
        del ctx, kind, name
        return x.clone()

    @staticmethod
    def symbolic(g: object, x: object, kind: str, name: str) -> object:
        """The node that resolve_markers looks for."""
        return g.op(f"{DOMAIN}::{kind}", x, name_s=name).setType(x.type())


class _Marker(nn.Module):
    def __init__(self, kind: str, name: str) -> None:
        super().__init__()
        self.kind, self.name = kind, name

    def forward(self, x: Tensor) -> Tensor:
        return _Mark.apply(x, self.kind, self.name)


def _export_marked(
    graph_module: fx.GraphModule, table: ScaleTable | None, model: LaneModel, batch: int
) -> onnx.ModelProto:
    heads = heads_of(graph_module)
    if set(heads) != {head.name for head in model.heads}:
        raise TrtLaneError(
            f"{model.name} gives heads {sorted(heads)}; its description names "
            f"{sorted(head.name for head in model.heads)}"
        )
    marked = _with_markers(graph_module, table)
    buffer = io.BytesIO()
    image = torch.zeros(batch, 3, *model.image.input_hw)
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript exporter is deprecated, but the only one that keeps our markers without
        # more dependencies; torch is pinned.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            marked,
            (image,),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(heads),
            custom_opsets={DOMAIN: 1},
            do_constant_folding=False,  # or Linear's transposed weight would lose its name
        )
    return onnx.load_from_string(buffer.getvalue())


def _with_markers(graph_module: fx.GraphModule, table: ScaleTable | None) -> fx.GraphModule:
    """The graph with a marker behind every float tensor, on every site and on every weight."""
    marked = copy.copy(graph_module)
    marked.graph = copy.deepcopy(graph_module.graph)
    graph = marked.graph
    nodes = {node.name: node for node in graph.nodes}
    counter = 0

    def insert(after: fx.Node, kind: str, name: str) -> fx.Node:
        nonlocal counter
        counter += 1
        marked.add_module(f"marker_{counter}", _Marker(kind, name))
        with graph.inserting_after(after):
            return graph.call_module(f"marker_{counter}", (after,))

    named = {}
    for name, node in nodes.items():
        named[name] = node
        if "shape" not in node.meta or node.op in ("placeholder", "get_attr"):
            continue
        users = list(node.users)
        named[name] = insert(node, "Name", name)
        for user in users:
            user.replace_input_with(node, named[name])
    for site in table.sites if table else ():
        quantised = insert(named[site.tensor], "Quantize", site.key)
        for user in site.users:
            nodes[user].replace_input_with(named[site.tensor], quantised)
    graph.lint()
    marked.recompile()
    if table is not None:
        _mark_weights(marked, table)
    return marked.eval()


def _mark_weights(marked: fx.GraphModule, table: ScaleTable) -> None:
    for node in list(marked.graph.nodes):
        layer = weighted_module(marked, node)
        if layer is None or f"{node.target}.weight" not in table.weights:
            continue
        if parametrize.is_parametrized(layer):
            continue  # a layer that is called twice
        owner_path, _, last = node.target.rpartition(".")
        own = copy.deepcopy(layer)
        owner = marked.get_submodule(owner_path) if owner_path else marked
        setattr(owner, last, own)
        parametrize.register_parametrization(
            own, "weight", _Marker("Weight", f"{node.target}.weight"), unsafe=True
        )


def _check_table(graph_module: fx.GraphModule, table: ScaleTable) -> None:
    names = {node.name for node in graph_module.graph.nodes}
    of_weights = table.digests.get("weights")
    unknown = [s.tensor for s in table.sites if s.tensor not in names or set(s.users) - names]
    weights = dict(graph_module.state_dict())
    unknown += [
        name
        for name, levels in {**table.rounded, **table.biases}.items()
        if name not in weights or tuple(weights[name].shape) != levels.shape
    ]
    modules = dict(graph_module.named_modules())
    for side, factors in enumerate((table.equalised.inputs, table.equalised.outputs)):
        unknown += [
            path
            for path, values in factors.items()
            if not isinstance(modules.get(path), (*WEIGHTED, *BATCH_NORMS))
            or channel_counts(modules[path])[side] != len(values)
        ]
    if unknown:
        raise TrtLaneError(
            f"the scale table is of another network: {unknown[:3]} do not fit; calibrate again"
        )
    if of_weights is not None and of_weights != graph_module.meta["weights"]:
        raise TrtLaneError(
            f"the scale table was made for other weights (sha256 {of_weights[:12]}…, these are "
            f"{graph_module.meta['weights'][:12]}…); calibrate again with these weights"
        )
    scales = {**table.activations, **table.weights}
    low = sorted(key for key, scale in scales.items() if scale.bits != 8)
    if low:
        raise TrtLaneError(
            f"{len(low)} tensors have less than 8 bits (first: {low[0]}); such recipes are "
            "simulations: TensorRT runs INT8 only. Choose an int8_* recipe"
        )


def _name_shapes(exported: onnx.ModelProto, model: LaneModel, batch: int) -> None:
    """State the static shape of every output: the exporter's markers hid some."""
    by_name = {head.name: head for head in model.heads}
    for output in exported.graph.output:
        shape = output.type.tensor_type.shape
        del shape.dim[:]
        for size in (batch, *by_name[output.name].shape):
            shape.dim.add().dim_value = size
