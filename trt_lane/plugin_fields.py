"""What each plugin takes: names, types and ranges of its fields, from plugins/<name>/<name>.yaml.

The files are plain YAML of mappings in mappings, which is all that this reader knows: a vehicle
builds the plugins with a bare Python.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from trt_lane.errors import TrtLaneError

FOLDER = Path(__file__).resolve().parents[1] / "plugins"


class FieldType(str, Enum):
    """What a field holds."""

    INT = "int"
    FLOAT = "float"
    TEXT = "text"


@dataclass(frozen=True)
class PluginField:
    """One field of a plugin.

    Attributes:
        name: the decoder's name for it, and the ONNX attribute's.
        type: of each of its values.
        count: least and most values.
        minimum, maximum: of each number, both allowed.
        default: values as text where none are given, None when the field is required.
        choices: that a text is one of.
        sizes_of: "head axis ...": a head's sizes (no batch axis) that the field holds. Whoever
            knows the heads' shapes fills it in; numpy takes them from the heads themselves. 0 for
            an optional head that is not there.
        help: one line.
    """

    name: str
    type: FieldType
    count: tuple[int, int] = (1, 1)
    minimum: float = 0.0
    maximum: float = 0.0
    default: str | None = None
    choices: tuple[str, ...] = ()
    sizes_of: str = ""
    help: str = ""

    def __post_init__(self) -> None:
        if self.type is FieldType.TEXT:
            if not self.choices or self.count != (1, 1):
                raise ValueError(f"{self.name}: a text has choices and no count")
        elif not (0 <= self.count[0] <= self.count[1] and self.minimum <= self.maximum):
            raise ValueError(f"{self.name}: count {self.count}, min and max must be in order")

    def takes(self, value: Any) -> bool:
        """Whether the plugin takes a value: a number or a sequence of them, or a text."""
        if self.type is FieldType.TEXT:
            return value in self.choices
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        return self.count[0] <= len(numbers) <= self.count[1] and all(
            isinstance(n, (int, float))
            and self.minimum <= n <= self.maximum
            and (self.type is FieldType.FLOAT or n == int(n))
            for n in numbers
        )

    @property
    def expected(self) -> str:
        """In words, what the plugin takes."""
        if self.type is FieldType.TEXT:
            return f"one of {', '.join(self.choices)}"
        least, most = self.count
        kind = "whole number" if self.type is FieldType.INT else "number"
        many = f"{least} {kind}s" if least == most else f"{least} to {most} {kind}s"
        what = f"a {kind}" if most == 1 else many
        return f"{what} from {self.minimum:.10g} to {self.maximum:.10g}"


@dataclass(frozen=True)
class PluginDescription:
    """A plugin as its YAML describes it.

    Attributes:
        name: of the folder, the TensorRT plugin and the decoder.
        type: the C++ struct.
        kind: decoder, or preprocess.
        version: of the TensorRT plugin.
        help: one line.
        heads: what each input is, by the head's name, in the plugin's order; one that may be
            missing begins with "optional" and comes last.
        fields: by name.
    """

    name: str
    type: str
    version: str
    help: str
    heads: dict[str, str]
    fields: dict[str, PluginField]
    kind: str = "decoder"

    def present(self, heads: Collection[str]) -> list[str]:
        """The plugin's inputs when these heads are there: all but optional ones that are not."""
        return [
            name for name, what in self.heads.items() if name in heads or what[:8] != "optional"
        ]

    def head_sizes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """The fields that hold sizes of heads, from the heads' shapes without the batch axis."""
        sizes: dict[str, Any] = {}
        for field in self.fields.values():
            head, *axes = field.sizes_of.split() or [""]
            if head:
                shape = shapes.get(head)  # None: an optional head
                found = tuple(shape[int(axis)] if shape else 0 for axis in axes)
                sizes[field.name] = found if field.count[1] > 1 else found[0]
        return sizes

    def describe(self) -> str:
        """For people: the inputs, then one line per field."""
        heads = [f"  reads {name}: {what}" for name, what in self.heads.items()]
        fields = [
            f"  {field.name}: {field.expected}"
            + ("" if field.default is None else f", default {field.default}")
            + f". {field.help}"
            for field in self.fields.values()
        ]
        return "\n".join([f"{self.name}: {self.help}", *heads, *fields])

    def checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values themselves, when the plugin takes them.

        Raises:
            TrtLaneError: an unknown or missing field, or a value out of its range.
        """
        for name in values.keys() - self.fields.keys():
            raise TrtLaneError(f"{self.name}: no field {name!r}; fields: {', '.join(self.fields)}")
        for name, field in self.fields.items():
            if name not in values and field.default is None:
                raise TrtLaneError(f"{self.name}: {name} is missing ({field.help})")
            if name in values and not field.takes(values[name]):
                raise TrtLaneError(
                    f"{self.name}: {name} is {values[name]!r}; expected {field.expected} "
                    f"({field.help})"
                )
        return dict(values)


def read_plugins(
    folder: Path = FOLDER, names: Collection[str] | None = None
) -> list[PluginDescription]:
    """The plugins of a folder, all or those of the names, in alphabetical order."""
    paths = sorted(folder.glob("*/*.yaml"))
    return [read_plugin(path) for path in paths if names is None or path.stem in names]


def read_plugin(path: Path) -> PluginDescription:
    """A plugin from its YAML; what is wrong with it is a TrtLaneError."""
    try:
        values = read_mapping(path.read_text(encoding="utf-8"))
        fields = {name: _field(name, dict(v)) for name, v in values.pop("fields").items()}
        found = PluginDescription(fields=fields, **values)
    except (OSError, UnicodeDecodeError, TypeError, ValueError, KeyError) as error:
        raise TrtLaneError(f"cannot read the plugin's fields {path}: {error}") from None
    if found.name != path.stem:
        raise TrtLaneError(f"{path} describes {found.name!r}; expected the name of its folder")
    return found


def read_mapping(text: str) -> dict[str, Any]:
    """Mappings of mappings of texts; two blanks per level, `#` lines are comments.

    Raises:
        ValueError: anything else that YAML knows.
    """
    root: dict[str, Any] = {}
    levels = [root]
    for number, line in enumerate(text.splitlines(), 1):
        body = line.strip()
        if not body or body[0] == "#":
            continue
        depth, odd = divmod(len(line) - len(line.lstrip(" ")), 2)
        key, colon, value = body.partition(":")
        if odd or not colon or depth >= len(levels) or key in levels[depth]:
            raise ValueError(f"line {number} is {line!r}; expected `key: value`, each key once")
        del levels[depth + 1 :]
        value = value.strip()
        if value:
            levels[depth][key] = _scalar(value, number)
        else:
            levels[depth][key] = {}
            levels.append(levels[depth][key])
    return root


def _scalar(text: str, number: int) -> str:
    if text[0] == '"' and text[-1] == '"' and len(text) > 1 and '"' not in text[1:-1]:
        return text[1:-1]
    if (text[0] in "\"'[{&*!|>%@`-?," and not text[1:2].isdigit()) or ": " in text or " #" in text:
        raise ValueError(f"line {number} has the value {text}; put it in double quotes")
    return text


def _field(name: str, values: dict[str, str]) -> PluginField:
    kind = FieldType(values.pop("type"))
    least, dots, most = values.pop("count", "1").partition("..")
    numbers = {key: float(values.pop(short)) for key, short in _BOUNDS.items() if short in values}
    if kind is not FieldType.TEXT and len(numbers) < 2:
        raise ValueError(f"{name} has no min and max")
    return PluginField(
        name,
        kind,
        count=(int(least), int(most if dots else least)),
        choices=tuple(values.pop("choices", "").split()),
        **numbers,
        **values,
    )


_BOUNDS = {"minimum": "min", "maximum": "max"}
