from __future__ import annotations

import re

import pytest

from trt_lane.errors import TrtLaneError
from trt_lane.plugin_fields import (
    FOLDER,
    FieldType,
    PluginField,
    read_mapping,
    read_plugin,
    read_plugins,
)

PLUGIN = """# a comment
name: thing
type: Thing
version: 1
help: "does: things"
heads:
  logits: (N, size)
fields:
  size:
    type: int
    min: 1
    max: 9
    help: how many
  rows:
    type: float
    count: 0..4
    min: -1.5
    max: 2.0e+3
    default: 1 2
    sizes_of: logits 0
  mode:
    type: text
    choices: fast slow
    default: slow
"""


def written(tmp_path, text=PLUGIN):
    path = tmp_path / "thing" / "thing.yaml"
    path.parent.mkdir()
    path.write_text(text)
    return path


def test_fields_are_read(tmp_path):
    found = read_plugin(written(tmp_path))
    assert (found.type, found.version, found.help) == ("Thing", "1", "does: things")
    assert found.kind == "decoder"
    assert found.fields["size"] == PluginField("size", FieldType.INT, (1, 1), 1, 9, help="how many")
    assert found.fields["rows"].count == (0, 4)
    assert found.fields["rows"].maximum == 2000
    assert found.fields["rows"].default == "1 2"
    assert found.fields["mode"].choices == ("fast", "slow")
    assert [p.name for p in read_plugins(tmp_path)] == ["thing"]
    assert read_plugins(tmp_path, names=["other"]) == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("    min: 1\n", "", "no min and max"),
        ("min: 1\n", "min: 10\n", "in order"),
        ("type: int", "type: whole", "whole"),
        ("    choices: fast slow\n", "", "choices"),
        ("  size:", " size:", "line 9"),
        ("max: 9", "max: 9\n    max: 8", "each key once"),
        ("help: how many", "help: how: many", "double quotes"),
        ("version: 1\n", "", "version"),
        ("name: thing", "name: other", "expected the name of its folder"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(tmp_path, old, new, reason):
    path = written(tmp_path, PLUGIN.replace(old, new))
    with pytest.raises(TrtLaneError, match=reason) as error:
        read_plugin(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(TrtLaneError, match=r"no\.yaml"):
        read_plugin(tmp_path / "no.yaml")


def test_our_files_say_the_same_to_a_yaml_library():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

    def texts(value):
        if isinstance(value, dict):
            return {k: texts(v) for k, v in value.items()}
        return value if isinstance(value, str) else float(value)

    def numbers(value):
        if isinstance(value, dict):
            return {k: numbers(v) for k, v in value.items()}
        return float(value) if re.fullmatch(r"-?\d+(\.\d+)?(e[-+]\d+)?", value) else value

    paths = sorted(FOLDER.glob("*/*.yaml"))
    assert paths
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert numbers(read_mapping(text)) == texts(yaml.safe_load(text)), path


def test_optional_heads_are_inputs_only_where_they_are_there():
    plugin = read_plugins(names=["keypoint_grouping"])[0]
    *needed, optional = plugin.heads
    assert plugin.present([*needed, optional, "another"]) == [*needed, optional]
    assert plugin.present([]) == needed


def test_fields_that_hold_sizes_of_heads_are_found_from_their_shapes():
    plugin = read_plugins(names=["keypoint_grouping"])[0]
    assert plugin.head_sizes({"cpts_hm_logits": (1, 4, 9)}) == {"cpts_maps": 1}
    assert plugin.head_sizes({"kpts_hm_logits": (1, 4, 9)}) == {"cpts_maps": 0}
    of_map = read_plugins(names=["segmentation"])[0].head_sizes({"out": (5, 36, 100)})
    assert of_map == {"map_hw": (36, 100)}
