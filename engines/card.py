"""ModelCard: what the build must know of a lane model; the export put it into the ONNX's metadata.

The build stage has neither torch nor the model registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from trt_lane.artifact import HeadShape
from trt_lane.decoders import decoder_from_dict
from trt_lane.errors import TrtLaneError
from trt_lane.image import ImageSpec
from trt_lane.plugin_library import LANE_OUTPUTS

KEY = "trt_lane"  # of the metadata entry, as engines.export writes it


@dataclass(frozen=True)
class ModelCard:
    """Name, geometry, heads and decoder of a lane model.

    Attributes:
        model: the model's name.
        image: its ImageSpec.
        heads: name and shape in output order.
        decoder: decoder_to_dict of its decoder.
        float_type: "fp16" or "fp32": what is not INT8.
        recipe: of the calibration, None for a float graph.
        digests: sha256 of what the ONNX came from: "scales", "weights", "recipe" …
        plan: what the accuracy budget keeps in float and why; None when there was no budget.
        sites: what the QuantizeLinear of every quantised tensor puts out, by its graph node; None
            in a graph of an older version.
    """

    model: str
    image: ImageSpec
    heads: tuple[HeadShape, ...]
    decoder: dict
    float_type: str
    recipe: str | None = None
    digests: dict[str, str] = field(default_factory=dict)
    plan: dict | None = None
    sites: dict[str, str] | None = None

    @property
    def precision(self) -> str:
        """What the graph computes in."""
        in_int8 = "scales" in self.digests and (self.plan or {}).get("int8_macs_share") != 0
        return f"int8+{self.float_type}" if in_int8 else self.float_type


def read_onnx(path: Path) -> onnx.ModelProto:
    """An ONNX file with its weights; a missing, damaged or empty one is a TrtLaneError."""
    try:
        model = onnx.load(path)
    except FileNotFoundError:
        raise TrtLaneError(f"no ONNX file at {path}; run: python -m engines export") from None
    except Exception as error:  # protobuf and onnx raise many kinds on damaged files
        raise TrtLaneError(f"{path} is not a whole ONNX file ({error}); export it again") from None
    if not model.graph.node:  # an empty file is a valid message
        raise TrtLaneError(f"{path} is an ONNX file without any node; export it again")
    return model


def read_card(onnx_model: onnx.ModelProto) -> ModelCard | None:
    """The card in the ONNX's metadata, None when there is none; a damaged one is an error."""
    text = next((p.value for p in onnx_model.metadata_props if p.key == KEY), None)
    if text is None:
        return None
    try:
        values = json.loads(text)
        decoder_from_dict(values["decoder"])
        digests = dict(values["digests"])
        if values["scales"] is not None:
            digests["scales"] = values["scales"]
        return ModelCard(
            values["model"],
            ImageSpec.from_dict(values["image"]),
            tuple(HeadShape(h["name"], tuple(h["shape"])) for h in values["heads"]),
            values["decoder"],
            values["float_type"],
            values["recipe"],
            digests,
            values.get("plan"),
            dict(values["sites"]) if "sites" in values else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, TrtLaneError) as error:
        raise TrtLaneError(
            f"the model's description in the ONNX is damaged ({error!r}); export it again"
        ) from None


def check_outputs(onnx_model: onnx.ModelProto, card: ModelCard) -> int:
    """Refuse a graph whose inputs and outputs are not the model's; its batch, where they are."""
    inputs = {i.name: _shape(i) for i in onnx_model.graph.input}
    outputs = {o.name: _shape(o) for o in onnx_model.graph.output if o.name not in LANE_OUTPUTS}
    first = next(iter(inputs.values()), ())
    batch = max(first[0], 1) if first else 1
    image = (batch, 3, *card.image.input_hw)
    heads = {h.name: (batch, *h.shape) for h in card.heads}
    if list(inputs.values()) != [image] or outputs != heads:
        raise TrtLaneError(
            f"the ONNX has inputs {inputs} and outputs {outputs}; {card.model} has one input "
            f"{image} and outputs {heads}; export it again for this model"
        )
    return batch


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
