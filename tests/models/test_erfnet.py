import pytest
import torch

from trt_lane.model import get_model


@pytest.mark.parametrize(
    ("data", "first_linear"), [("culane", 4500), ("tusimple", 4400), ("llamas", 4400)]
)
def test_existence_head_has_the_configured_size(data, first_linear):
    with torch.device("meta"):
        classifier = get_model(f"erfnet.{data}").network().lane_classifier
    assert classifier.linear1.in_features == first_linear
