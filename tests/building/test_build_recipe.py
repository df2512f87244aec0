import pytest

from trt_lane.building.recipe import BuilderKind, BuildRecipe

ORIN = BuildRecipe("jetson-orin", BuilderKind.TENSORRT, (87,), ("10.3", "12"), "aarch64")


def test_a_recipe_comes_back_from_its_plain_values():
    assert BuildRecipe.from_dict(ORIN.to_dict()) == ORIN


@pytest.mark.parametrize(
    "change",
    [
        {"target": "../../etc/x"}, {"target": "a/b"}, {"target": ""}, {"target": None},
        {"machine": "../x"}, {"machine": 5}, {"builder": "make"}, {"compute_capabilities": [8.7]},
        {"compute_capabilities": [10]}, {"compute_capabilities": 87},
        {"version_range": ["12", "10.3"]}, {"version_range": ["10.3"]}, {"more": 1},
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_refused(change):
    with pytest.raises((ValueError, TypeError)):
        BuildRecipe.from_dict({**ORIN.to_dict(), **change})


@pytest.mark.parametrize(
    ("version", "accepted"), [("10.3.0.30", True), ("11.4", True), ("10.2.9", False), ("12", False)]
)
def test_versions_are_taken_from_first_to_last(version, accepted):
    assert ORIN.accepts(version) == accepted
