from pathlib import Path

import pytest

from benchmarks.cell_specs import RECIPES, parse_model, parse_recipe, parse_seeds
from trt_lane.errors import TrtLaneError


def test_a_bare_name_takes_the_bundled_weights_and_synthetic_frames():
    spec = parse_model("ufld")
    assert spec.weights.name == "ufld.safetensors"
    assert (spec.data, spec.calibration_data) == ("synthetic:test", "synthetic:calibration")


def test_weights_and_data_are_read_from_the_spec(tmp_path):
    weights = tmp_path / "w.pth"
    weights.touch()
    both = parse_model(f"ufld={weights}@culane:some/dir@images:other")
    assert (both.weights, both.data, both.calibration_data) == (
        weights,
        "culane:some/dir",
        "images:other",
    )
    one = parse_model("ufld@culane:some/dir")
    assert one.data == one.calibration_data == "culane:some/dir"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not NAME"),
        ("=w.pth", "is not NAME"),
        ("ufld=", r"'ufld=' is not NAME\[=WEIGHTS\]"),
        ("ufld@", "is not NAME"),
        ("ufld@a@", "is not NAME"),
        ("ufld@a@b@c", "is not NAME"),
        ("ufdl", "no lane model 'ufdl'; did you mean 'ufld'"),
        ("ufld=missing.pth", "no file missing.pth"),
        ("lstr.tusimple", "no weights are bundled for lstr.tusimple"),
    ],
)
def test_a_model_that_cannot_be_is_refused(text, message):
    with pytest.raises(TrtLaneError, match=message):
        parse_model(text)


def test_the_common_factor_is_for_methods_with_published_steps_only():
    assert parse_recipe("int8_qdrop", 0.01).factor == 0.01
    assert parse_recipe("int8_adaround", 0.01).factor == 0.01
    assert parse_recipe("int8_selective_focus", 0.01).factor == 1
    assert parse_recipe("int8_selective_focus:2", 0.01).factor == 2
    assert parse_recipe("int8_qdrop:0.5", 0.01).factor == 0.5


def test_a_recipe_that_learns_nothing_has_no_factor():
    spec = parse_recipe("int8_mse:0.5", 0.01)
    assert (spec.factor, spec.unit) == (1, None)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_the_unit_read_from_the_file_is_the_recipes(path):
    from calibrators.recipe_files import load_recipe

    learned = load_recipe(path.stem).reconstruction
    assert parse_recipe(path.stem).unit == (learned and learned.unit.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no recipe ''"),
        ("int8_qdorp", "no recipe 'int8_qdorp'; .*known recipes: .*int8_qdrop"),
        ("int8_qdrop:", "steps factor is"),
        ("int8_qdrop:x", "steps factor is 'x'"),
        ("int8_qdrop:0", "steps factor is '0'"),
        ("int8_qdrop:-1", "steps factor is '-1'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(text, message):
    with pytest.raises(TrtLaneError, match=message):
        parse_recipe(text)


def test_seeds_are_different_whole_numbers():
    assert parse_seeds(" 0 7 ") == [0, 7]
    for text in ("", "x", "1.5", "-1", "1 1"):
        with pytest.raises(TrtLaneError, match="seeds are"):
            parse_seeds(text)


def test_recipes_lie_where_they_are_looked_for():
    assert (Path(RECIPES) / "int8_mse.toml").is_file()
