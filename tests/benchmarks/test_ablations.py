"""Recipes as files: what an ablation switches off, and nothing else."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.cell_specs import parse_recipe
from calibrators.recipe_files import load_recipe
from trt_lane.errors import TrtLaneError

ABLATIONS = Path(__file__).parents[2] / "benchmarks" / "ablations"
SWITCHES = {
    "w4a4_without_sgf": {"focus"},
    "w4a4_without_sas": {"selection", "unselected"},  # where none is selected, none is left
    "w4a4_without_lanes": {"channels", "classes"},
    "w4a4_without_blocks": {"block_steps", "steps"},
}


@pytest.mark.parametrize("path", sorted(ABLATIONS.glob("*.toml")), ids=lambda p: p.stem)
def test_an_ablation_is_selective_focus_without_what_its_name_says(path):
    whole, without = load_recipe("w4a4_selective_focus"), load_recipe(str(path))
    ours, theirs = (dataclasses.asdict(r.reconstruction) for r in (whole, without))
    assert {k for k in ours if ours[k] != theirs[k]} == SWITCHES[path.stem]
    same = {"name": "", "description": "", "reconstruction": None}
    assert dataclasses.replace(whole, **same) == dataclasses.replace(without, **same)


def test_a_file_is_a_recipe_like_those_that_come_with_the_project(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(parse_recipe("w4a4_qdrop").path.read_text())
    own = parse_recipe(f"{file}:0.5", 0.01)
    assert (own.name, own.path, own.factor, own.unit) == ("mine", file, 0.5, "block")
    with pytest.raises(TrtLaneError, match="no recipe"):
        parse_recipe(str(tmp_path / "none.toml"))
