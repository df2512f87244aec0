import pytest
import torch
from exported import (
    assert_export_agrees,
    assert_heads_described,
    assert_trace_agrees,
    fill_randomly,
)
from rule import load_case

from trt_lane.model import get_model
from trt_lane.models.erfnet import MODELS

NAMES = [m.name for m in MODELS]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_agrees_with_the_official_network(shared):
    case = load_case(shared, "erfnet_culane")
    model = get_model("erfnet.culane")
    module = case.fill(model.build(), model.training_only)
    case.assert_agrees(case.run(module))


@pytest.mark.parametrize("name", NAMES)
def test_heads_have_the_described_shape(name):
    assert_heads_described(get_model(name))


def test_traced_network_gives_the_same_for_any_batch():
    model = get_model("erfnet")
    assert_trace_agrees(model, fill_randomly(model.build()))


@pytest.mark.parametrize(
    "name", ["erfnet", *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[1:])]
)
def test_export_agrees(name):
    model = get_model(name)
    assert_export_agrees(model, fill_randomly(model.build()))


def test_demo_fits_in_twelve_megabytes_of_half_floats():
    parameters = sum(p.numel() for p in get_model("erfnet").build().parameters())
    assert parameters < 5_500_000


@pytest.mark.parametrize(
    ("data", "first_linear"), [("culane", 4500), ("tusimple", 4400), ("llamas", 4400)]
)
def test_existence_head_has_the_configured_size(data, first_linear):
    with torch.device("meta"):
        classifier = get_model(f"erfnet.{data}").network().lane_classifier
    assert classifier.linear1.in_features == first_linear
