"""The layer table of an engine: what every layer computes in, and how many MACs it does."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from engines.macs import NodeMacs

INT8 = "INT8"


@dataclass(frozen=True)
class RawLayer:
    """One layer as a builder reports it.

    Attributes:
        name: the builder's name for it.
        kind: the builder's layer type.
        inputs: types of its activations, "INT8", "FP16" …
        outputs: types of its results.
        onnx_nodes: names of the ONNX nodes that went into it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    onnx_nodes: tuple[str, ...]


@dataclass(frozen=True)
class LayerRecord(RawLayer):
    """A layer with its work.

    Attributes:
        macs: multiply-accumulates of layers with weights.
        activation_macs: of products of two activations (attention), which the recipe leaves in
            float.
        reason: why a layer with weights does not run in INT8, "" where it does or has none.
    """

    macs: int = 0
    activation_macs: int = 0
    reason: str = ""

    @property
    def is_int8(self) -> bool:
        """Whether it reads integers: a layer with INT8 inputs multiplies in INT8."""
        return bool(self.inputs) and all(kind == INT8 for kind in self.inputs)

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> LayerRecord:
        """The inverse of `to_dict`."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class Coverage:
    """How much of the network's work runs in INT8.

    Attributes:
        int8_macs, total_macs: of convolutions and GEMM or linear layers (those with weights).
        share: int8_macs / total_macs; 1.0 for a network without such layers.
        not_int8: (layer, reason) for every layer with weights that runs in float, heaviest first.
        activation_macs: work of activation-by-activation products, counted in neither.
    """

    int8_macs: int
    total_macs: int
    share: float
    not_int8: tuple[tuple[str, str], ...]
    activation_macs: int


def coverage(table: list[LayerRecord]) -> Coverage:
    """Share of convolution and linear MACs in INT8, with the exceptions named."""
    total = sum(r.macs for r in table)
    int8 = sum(r.macs for r in table if r.is_int8)
    in_float = sorted((r for r in table if r.macs and not r.is_int8), key=lambda r: -r.macs)
    exceptions = tuple((r.name, r.reason) for r in in_float)
    return Coverage(
        int8, total, int8 / total if total else 1.0, exceptions,
        sum(r.activation_macs for r in table),
    )  # fmt: skip


def assign_macs(
    layers: list[RawLayer], work: list[NodeMacs], reasons: dict[str, str] | None = None
) -> list[LayerRecord]:
    """Give every ONNX node's MACs to the one layer that carries it out.

    A builder names a node in the layer that multiplies and again in the pointwise layers that
    rescale its result; the first is told by its name, then by its type.

    Args:
        layers: in execution order.
        work: MACs per ONNX node.
        reasons: ONNX node -> why it stays in float, where the builder's side knows.
    """
    reasons = reasons or {}
    macs = [0] * len(layers)
    activation_macs = [0] * len(layers)
    why = [""] * len(layers)
    lost = []
    for node in work:
        position = _find_layer(node.node, layers)
        if position is None:
            lost.append(node)
            continue
        if not node.weighted:
            activation_macs[position] += node.macs
            continue
        macs[position] += node.macs
        why[position] = reasons.get(node.node) or _reason(node, layers[position])
    table = []
    for layer, own, products, reason in zip(layers, macs, activation_macs, why, strict=True):
        record = LayerRecord(**asdict(layer), macs=own, activation_macs=products)
        table.append(record if record.is_int8 or not own else _with_reason(record, reason))
    table += [
        LayerRecord(
            n.node, n.op, (), (), (n.node,),
            macs=n.macs if n.weighted else 0,
            activation_macs=0 if n.weighted else n.macs,
            reason="no layer of the engine names this node, so its precision is not proven",
        )
        for n in lost
    ]  # fmt: skip
    return table


def _with_reason(record: LayerRecord, reason: str) -> LayerRecord:
    return LayerRecord(**{**asdict(record), "reason": reason})


def _find_layer(node: str, layers: list[RawLayer]) -> int | None:
    holding = [i for i, layer in enumerate(layers) if node in layer.onnx_nodes]
    if not holding:
        return None
    # "a+b_myl0_3" multiplies for a and b; "__myl_MulAdd_myl0_4" only rescales.
    own = [i for i in holding if _is_named_in(node, layers[i].name)]
    heavy = [i for i in own or holding if _multiplies(layers[i].kind)]
    return (heavy or own or holding)[0]


def _is_named_in(node: str, layer: str) -> bool:
    return any(part == node or part.startswith(f"{node}_myl") for part in layer.split("+")) or (
        node == layer
    )


def _multiplies(kind: str) -> bool:
    words = ("corr", "conv", "gemm", "matmul", "matrix", "fully", "linear")
    return any(word in kind.lower() for word in words)


def _reason(node: NodeMacs, layer: RawLayer) -> str:
    precision = layer.inputs[0] if layer.inputs else "float"
    if not node.quantised:
        return "the ONNX has no Q/DQ at its inputs: the recipe or export keeps it in float"
    return (
        f"quantised in the ONNX, but the builder runs this {node.op} ({layer.kind}) in {precision}"
    )
