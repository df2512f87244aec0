"""The demos' weights: listed, whole, and lane detectors."""

import pytest
import torch

from trt_lane.datasets import open_dataset
from trt_lane.evaluation import lanes_of
from trt_lane.metrics.report import score_labels
from trt_lane.model import get_model, list_models
from trt_lane.models._checkpoint import WEIGHTS_FOLDER, bundled_weights, load_checkpoint
from trt_lane.toml_files import read_toml

DEMOS = [name for name in list_models() if get_model(name).demo]
LARGEST_BYTES = 12_000_000


def test_the_list_names_the_demos_and_nothing_else():
    listed = read_toml(WEIGHTS_FOLDER / "weights.toml")
    assert sorted(listed) == sorted(DEMOS)
    files = {entry["file"] for entry in listed.values()}
    assert {path.name for path in WEIGHTS_FOLDER.glob("*.safetensors")} == files


@pytest.mark.parametrize("name", DEMOS)
def test_weights_are_whole_small_and_find_lanes_on_unseen_roads(name):
    model = get_model(name)
    path = bundled_weights(model)
    assert path.stat().st_size < LARGEST_BYTES
    network = model.build()
    network.load_state_dict(load_checkpoint(model, path))

    def run(image):
        with torch.no_grad():
            return {key: head.numpy() for key, head in network(torch.from_numpy(image)).items()}

    dataset = open_dataset("synthetic:test:8")
    lanes, labels = lanes_of({"float": run}, model.image, model.decoder, dataset, range(8))
    score = score_labels(dataset.metric, labels, lanes["float"])
    assert score.value > 0.7  # .8 and more on 500 frames
