"""Builders' reports to one layer table: RTX's build log, TensorRT's inspector, ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import onnx

from engines import compat
from engines.layer_table import Coverage, LayerRecord, RawLayer, assign_macs
from engines.macs import count_macs
from trt_lane.errors import TrtLaneError

# Layers that only order streams or change a tensor's layout.
_BOOKKEEPING = ("signal", "wait", "noop", "shape_call")


def table_from_rtx_log(text: str, model: onnx.ModelProto) -> list[LayerRecord]:
    """The layer table from TensorRT-RTX's verbose build log with detailed profiling."""
    layers = [_rtx_layer(line) for line in _rtx_records(text)]
    if not layers:
        raise TrtLaneError(
            "the build log has no `Layers:` records; the engine must be built with a verbose "
            "logger and detailed profiling, as python -m engines build does"
        )
    return assign_macs([x for x in layers if x.kind not in _BOOKKEEPING], count_macs(model))


def table_from_inspector(report: dict, model: onnx.ModelProto) -> list[LayerRecord]:
    """The layer table from the JSON of TensorRT 10's or 11's engine inspector."""
    layers = report.get("Layers") if isinstance(report, dict) else None
    if not isinstance(layers, list) or not all(isinstance(x, dict) for x in layers):
        raise TrtLaneError(
            "the inspector's report holds only layer names; the engine must be built with "
            "detailed profiling, as python -m engines build does"
        )
    raw = [
        RawLayer(
            str(layer.get("Name", "?")),
            str(layer.get("LayerType", "?")),
            tuple(compat.tensor_type(t) for t in layer.get("Inputs", ())),
            tuple(compat.tensor_type(t) for t in layer.get("Outputs", ())),
            _onnx_nodes(str(layer.get("Metadata", ""))),
        )
        for layer in layers
    ]
    return assign_macs([x for x in raw if x.kind.lower() not in _BOOKKEEPING], count_macs(model))


def table_from_onnxruntime(
    optimised: onnx.ModelProto,
    lowered: onnx.ModelProto,
    model: onnx.ModelProto,
    reasons: dict[str, str],
) -> list[LayerRecord]:
    """The layer table of the graph that ONNX Runtime executes.

    Args:
        optimised: what the session wrote as its optimised model.
        lowered: CpuGraph.model, from which the session started.
        model: the Q/DQ graph that was lowered.
        reasons: CpuGraph.in_float.
    """
    layers = _onnxruntime_layers(optimised)
    known = {n for layer in layers for n in layer.onnx_nodes}
    # The blocked float convolutions (NCHWc) of ONNX Runtime lose their names.
    layers += [
        layer
        for layer in _onnxruntime_layers(lowered)
        if layer.kind in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        and not known & set(layer.onnx_nodes)
    ]
    return assign_macs(layers, count_macs(model), reasons)


def _onnxruntime_layers(model: onnx.ModelProto) -> list[RawLayer]:
    types = {i.name: "FP32" for i in model.graph.input}
    layers = []
    for node in model.graph.node:
        if node.op_type in _INTEGER_KERNELS:
            kind = "INT8"
        elif node.op_type in _MOVES:
            kind = types.get(node.input[0], "FP32")
        else:
            kind = "FP32"
        result = _RESULT.get(node.op_type, kind)
        types.update(dict.fromkeys(node.output, result))
        name = node.name or node.output[0]
        source = node.name.partition("|")[0]
        layers.append(RawLayer(name, node.op_type, (kind,), (result,), (source,)))
    return layers


_INTEGER_KERNELS = (
    "QLinearConv", "QGemm", "MatMulIntegerToFloat", "MatMulInteger", "ConvInteger", "QLinearMatMul",
    "QLinearAdd", "DynamicQuantizeMatMul", "DequantizeLinear",
)  # fmt: skip
_RESULT = {"MatMulIntegerToFloat": "FP32", "DequantizeLinear": "FP32", "QuantizeLinear": "INT8"}
_MOVES = (
    "Clip", "MaxPool", "Reshape", "Transpose", "Concat", "Identity", "Resize", "Slice", "Flatten",
    "Squeeze", "Unsqueeze",
)  # fmt: skip


def _rtx_records(text: str) -> Iterator[str]:
    """Lines of the last `Layers:` block: a build that was repeated logs more than one."""
    _, found, block = text.rpartition("Layers:\n")
    for line in block.splitlines() if found else ():
        if not line.startswith("Name: "):
            break
        yield line


def _rtx_layer(line: str) -> RawLayer:
    head = re.match(r"Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*)", line)
    if head is None:
        raise TrtLaneError(f"the build log has a layer record of unknown form: {line[:80]!r}")
    parts = {
        key: re.search(rf", {key}: \[(.*?)\], (?:{after}): ", line)
        for key, after in (("Inputs", "Constants"), ("Outputs", "TacticName"))
    }
    types = {
        key: tuple(
            compat.tensor_type({"Datatype": t})
            for t in re.findall(r"Datatype: ([A-Za-z0-9_]+)", match.group(1) if match else "")
        )
        for key, match in parts.items()
    }
    _, _, metadata = line.partition("Metadata: ")
    return RawLayer(
        head["name"], head["kind"], types["Inputs"], types["Outputs"], _onnx_nodes(metadata)
    )


def _onnx_nodes(metadata: str) -> tuple[str, ...]:
    # 10.x puts the separator characters 0x1E and 0x1F between the entries, RTX nothing.
    return tuple(re.findall(r"\[ONNX Layer: (.*?)\](?=[\s\x1e\x1f\[]|$)", metadata))


def optimised_by_onnxruntime(path: Path, threads: int = 1) -> onnx.ModelProto:
    """The graph that ONNX Runtime makes of a model file before it executes it."""
    import tempfile

    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def format_table(table: list[LayerRecord], everything: bool = False) -> str:
    """The table for people: layers that multiply, or all of them."""
    rows = [("layer", "kind", "in", "out", "MMACs", "")]
    for record in table:
        work = record.macs + record.activation_macs
        if not (work or everything):
            continue
        note = record.reason or ("activation x activation" if record.activation_macs else "")
        rows.append(
            (
                record.name if len(record.name) <= 48 else record.name[:47] + "…",
                record.kind,
                "+".join(sorted(set(record.inputs))) or "?",
                "+".join(sorted(set(record.outputs))) or "?",
                f"{work / 1e6:.2f}" if work else "",
                note,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for name, kind, inputs, outputs, work, note in rows:
        cells = (name.ljust(widths[0]), kind.ljust(widths[1]), inputs.ljust(widths[2]),
                 outputs.ljust(widths[3]), work.rjust(widths[4]), note)  # fmt: skip
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def coverage_line(found: Coverage) -> str:
    """The audit in one line, with the exceptions counted."""
    line = f"INT8: {found.share:.1%} of {found.total_macs / 1e9:.3f} G convolution and linear MACs"
    if found.not_int8:
        first, reason = found.not_int8[0]
        layers = "1 layer" if len(found.not_int8) == 1 else f"{len(found.not_int8)} layers"
        line += f"; {layers} in float, first {first}: {reason}"
    if found.activation_macs:
        line += f"; {found.activation_macs / 1e6:.1f} M attention MACs stay in float"
    return line
