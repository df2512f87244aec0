import pytest
import torch

from trt_lane.model import get_model
from trt_lane.models._checkpoint import load_weights


@pytest.mark.parametrize(
    ("data", "first_linear"), [("culane", 4500), ("tusimple", 4400), ("llamas", 4400)]
)
def test_existence_head_has_the_configured_size(data, first_linear):
    with torch.device("meta"):
        classifier = get_model(f"erfnet.{data}").network().lane_classifier
    assert classifier.linear1.in_features == first_linear


def test_a_file_of_before_the_official_renaming_loads(tmp_path):
    model = get_model("erfnet.culane")
    state = model.network().state_dict()
    former = {k.replace("lane_classifier.", "aux_head."): v for k, v in state.items()}
    assert former.keys() != state.keys()
    path = tmp_path / "erfnet_baseline_culane_20210204.pt"
    torch.save({"model": former}, path)
    network = model.network()
    load_weights(model, network, path)
    loaded = network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
