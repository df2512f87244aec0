from dataclasses import replace

import pytest

from calibrators.observers import OBSERVERS
from calibrators.recipe import QuantRecipe, TensorRecipe
from calibrators.recipe_files import list_recipes, load_recipe
from trt_lane.errors import TrtLaneError


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads_and_says_what_it_does(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert len(recipe.description) > 10
    assert recipe.deployable == name.startswith("int8")


def test_every_observer_has_a_recipe():
    assert {load_recipe(n).activations.observer for n in list_recipes()} >= set(OBSERVERS)


def test_a_file_of_ones_own_is_read_by_its_path(tmp_path):
    path = written(tmp_path, 'description = "x"\nframes = 3\n[activations]\npercentile = 99\n')
    recipe = load_recipe(path)
    assert (recipe.name, recipe.frames) == ("mine", 3)
    assert recipe.activations.percentile == 99


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame = 3", "unknown key 'frame'; known keys: .*frames"),
        ("[weigths]\nbits = 4", "unknown key 'weigths'; known keys: .*weights"),
        ("[weights]\nbit = 4", r"unknown key 'weights\.bit'; known keys: .*bits"),
        ('frames = "3"', "frames is '3'; expected int"),
        ("frames = 3.5", "frames is 3.5; expected int"),
        ("frames = true", "frames is True; expected int"),
        ("description = 3", "description is 3; expected str"),
        ("weights = 4", "weights is 4; expected a table"),
        ("[activations]\npercentile = true", "percentile is True; expected float"),
        ("[activations]\npercentile = nan", "percentile is nan"),
        ("[activations]\npercentile = 0.99", "percentile is 0.99; expected above 50"),
        ('[activations]\nobserver = "max"', "observer is 'max'; expected one of .*minmax"),
        ("[activations]\nbits = 9", "bits is 9; expected 2..8"),
        ("[activations]\nbits = 1", "bits is 1; expected 2..8"),
        (
            '[reconstruction]\nunit = "block"\nblock_steps = 9',
            "block_steps come before the network's; unit is block",
        ),
        (
            '[reconstruction]\norder = "rounding_first"\nblock_steps = 9',
            "block_steps learn roundings and steps together; order is rounding_first",
        ),
        ("frames = 0", "frames is 0"),
        ("seed = -1", "seed is -1; expected 0 to"),
        ("seed = 9223372036854775808", "seed is 9223372036854775808; expected 0 to"),
        ("batch = 0", "batch is 0"),
        ('heads = "both"', "heads is 'both'; expected one of quantised, float"),
        (
            '[reconstruction]\nunit = "layer"\nfocus = "soft"',
            "focus and selection look at the heads",
        ),
        ("frames = = 3", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(tmp_path, text, message):
    if "description" not in text:
        text = f'description = "x"\n{text}'
    with pytest.raises(TrtLaneError, match=message) as caught:
        load_recipe(written(tmp_path, text))
    assert "mine.toml" in str(caught.value)


def test_a_missing_description_is_named(tmp_path):
    with pytest.raises(TrtLaneError, match="description"):
        load_recipe(written(tmp_path, "frames = 3"))


@pytest.mark.parametrize("name", ["int8_minmx", "", "nothing.toml", "recipes"])
def test_an_unknown_recipe_is_answered_with_the_known_ones(name):
    with pytest.raises(TrtLaneError, match=r"known recipes: .*int8_minmax"):
        load_recipe(name)


def test_a_typing_error_is_answered_with_the_nearest_name():
    with pytest.raises(TrtLaneError, match="did you mean 'int8_minmax'"):
        load_recipe("int8_minmx")


def test_the_digest_tells_every_number_and_no_prose():
    recipe = QuantRecipe("a", "first")
    assert recipe.digest() == replace(recipe, description="second").digest()
    others = [
        replace(recipe, seed=1),
        replace(recipe, frames=5),
        replace(recipe, batch=5),
        replace(recipe, heads="float"),
        replace(recipe, weights=TensorRecipe(bits=4)),
        replace(recipe, activations=TensorRecipe("mse")),
        replace(recipe, activations=TensorRecipe(percentile=99.0)),
    ]
    assert len({r.digest() for r in [recipe, *others]}) == len(others) + 1


def test_a_number_written_with_and_without_a_point_is_the_same_recipe(tmp_path):
    text = 'description = "x"\n[activations]\npercentile = {}\n'
    whole = load_recipe(written(tmp_path, text.format("99")))
    assert whole.digest() == load_recipe(written(tmp_path, text.format("99.0"))).digest()
