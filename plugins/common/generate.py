"""Makes C++ of the plugins' YAML: their field tables, and the list of all decoders.

    python3 plugins/common/generate.py OUT_DIR [PLUGIN ...]

OUT_DIR gets specs.h, which registry.cpp includes. Nothing but Python 3.10 is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from trt_lane.files import write_bytes  # noqa: E402
from trt_lane.plugin_fields import (  # noqa: E402
    FieldType,
    PluginDescription,
    PluginField,
    read_plugins,
)

NAMESPACE = """namespace trt_lane {{
namespace {{

{body}
}}  // namespace
}}  // namespace trt_lane
"""


def specs_h(plugins: list[PluginDescription]) -> str:
    """The tables of all plugins and the list of those that are decoders."""
    includes = [f'#include "{p.name}/{p.name}.h"\n' for p in plugins]
    body = "".join(_tables(plugin) for plugin in plugins)
    specs = " \\\n".join(f"    X({p.name})" for p in plugins)
    entries = " \\\n".join(f"    X({p.name}, {p.type})" for p in plugins if p.kind == "decoder")
    head = "// Made by generate.py from plugins/*/*.yaml.\n#pragma once\n\n"
    return (
        head
        + "".join(includes)
        + f"\n// X(name) of every plugin.\n#define TRT_LANE_PLUGINS(X) \\\n{specs}\n"
        + f"\n// X(name, struct) of every decoder.\n#define TRT_LANE_DECODERS(X) \\\n{entries}\n"
        + NAMESPACE.format(body=body)
    )


def _tables(plugin: PluginDescription) -> str:
    heads = ", ".join(map(_text, plugin.heads))
    fields = ",\n".join(f"    {_field(field)}" for field in plugin.fields.values())
    name = plugin.name
    return (
        f"constexpr char const* {name}_heads[] = {{{heads}}};\n"
        f"constexpr FieldSpec {name}_fields[] = {{\n{fields}}};\n"
        f"constexpr PluginSpec {name}_spec = {{{_text(name)}, {_text(plugin.version)},\n"
        f"    {_text(plugin.help)},\n"
        f"    {name}_heads, {len(plugin.heads)}, {name}_fields, {len(plugin.fields)}}};\n\n"
    )


def _field(field: PluginField) -> str:
    kinds = {FieldType.INT: "kInt", FieldType.FLOAT: "kFloat", FieldType.TEXT: "kText"}
    fallback = "nullptr" if field.default is None else _text(field.default)
    return (
        f"{{{_text(field.name)}, FieldKind::{kinds[field.type]}, {field.count[0]}, "
        f"{field.count[1]}, {field.minimum!r}, {field.maximum!r}, {fallback}, "
        f"{_text(' '.join(field.choices))}, {_text(field.sizes_of)}, {_text(field.help)}}}"
    )


def _text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main() -> None:
    """Write the header, and nothing when it is already there: make goes by its time."""
    out, names = Path(sys.argv[1]), sys.argv[2:]
    plugins = [p for p in read_plugins() if not names or p.name in names or p.kind != "decoder"]
    path, text = out / "specs.h", specs_h(plugins).encode()
    if not path.is_file() or path.read_bytes() != text:
        write_bytes(path, text)


if __name__ == "__main__":
    main()
