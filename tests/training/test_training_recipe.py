import pytest

from training.recipe import TrainingRecipe


def test_learning_rate_rises_then_falls_to_a_hundredth():
    recipe = TrainingRecipe(learning_rate=1.0, warmup=0.1)
    rates = [recipe.learning_rate_at(p) for p in (0, 0.05, 0.1, 0.5, 1)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(1.0)
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.01)


def test_progress_goes_by_minutes_where_they_are_given():
    assert TrainingRecipe(steps=100).progress(25, seconds=1e6) == 0.25
    assert TrainingRecipe(minutes=2).progress(10**6, seconds=30) == 0.25
    assert TrainingRecipe(minutes=2).progress(0, seconds=500) == 1


@pytest.mark.parametrize(
    "numbers", [{"steps": 0}, {"minutes": 0}, {"frames": 3}, {"batch": 2}, {"parts": 0}]
)
def test_impossible_recipe_is_refused(numbers):
    with pytest.raises(ValueError, match=r"expected"):
        TrainingRecipe(**numbers)
