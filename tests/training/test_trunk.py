import pytest
import torch

from training.targets import targets_of
from training.trunk import with_trunk
from trt_lane.errors import TrtLaneError
from trt_lane.model import get_model, list_models
from trt_lane.models._checkpoint import bundled_weights, load_checkpoint


def test_leading_layers_come_from_the_trained_network_and_the_rest_stay():
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(5)}
    trained = {"x.a": torch.ones(2, 3).half(), "x.b": torch.ones(4), "x.d": torch.ones(6)}
    started = with_trunk(state, trained)
    assert [value.sum().item() for value in started.values()] == [6, 4, 0]
    assert started["a"].dtype == torch.float32
    assert state["a"].sum() == 0


def test_a_later_layer_of_the_same_shape_is_not_taken():
    state = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(4)}
    trained = {"a": torch.ones(2), "b": torch.ones(9), "c": torch.ones(4)}
    assert [value.sum().item() for value in with_trunk(state, trained).values()] == [2, 0, 0]


def test_a_trunk_that_fits_nowhere_is_an_error_that_names_both_beginnings():
    with pytest.raises(TrtLaneError, match=r"conv \(2,\).*stem \(3,\)"):
        with_trunk({"conv": torch.zeros(2)}, {"stem": torch.zeros(3)})


def test_every_demo_that_borrows_a_trunk_gets_at_least_its_first_three_stages():
    borrowing = 0
    for name in list_models():
        model = get_model(name)
        try:
            recipe = targets_of(model).RECIPE
        except TrtLaneError:
            continue
        if "." in name or not recipe.trunk:
            continue
        other = get_model(recipe.trunk)
        trained = load_checkpoint(other, bundled_weights(other))
        state = model.network().state_dict()
        started = with_trunk(state, trained)
        kernels = [k for k, v in state.items() if v.ndim == 4 and not torch.equal(v, started[k])]
        assert len(kernels) >= 15, name  # the stem, three stages of four, two shortcuts
        borrowing += 1
    assert borrowing >= 3
