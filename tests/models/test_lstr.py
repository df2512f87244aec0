import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from trt_lane.errors import TrtLaneError
from trt_lane.metrics import culane, tusimple
from trt_lane.model import get_model
from trt_lane.models._checkpoint import load_weights
from trt_lane.models._transformer import Attention

TOLERANCE = 1e-4  # of the largest output: shared/README.md


@pytest.fixture(scope="module", params=["tusimple", "culane"])
def trained(request, shared):
    return with_weights(shared, request.param)


def with_weights(shared, data):
    model = get_model(f"lstr.{data}")
    module = model.build()
    load_weights(model, module, shared / "weights" / f"lstr_{data}.pkl")
    return model, module


def run(model, module, path):
    frame = cv2.imread(str(path))
    with torch.inference_mode():
        outputs = module(torch.from_numpy(model.image.to_tensor(frame))[None])
    return {name: value[0].numpy() for name, value in outputs.items()}


def test_agrees_with_the_official_network_on_real_frames(shared, trained):
    model, module = trained
    data = model.metric.value
    with np.load(shared / "data" / "real_network_cases" / f"lstr_{data}.npz") as arrays:
        expected = {key: arrays[key][0] for key in arrays.files}
    frames = sorted({key.split("|")[0] for key in expected})
    assert len(frames) == 6
    for frame in frames:
        outputs = run(model, module, shared / "data" / data / frame.lstrip("/"))
        for head in model.heads:
            official = expected[f"{frame}|{head.name}"]
            assert outputs[head.name].shape == head.shape == official.shape
            error = np.abs(outputs[head.name] - official).max() / np.abs(official).max()
            assert error < TOLERANCE, (frame, head.name)


def test_tusimple_accuracy_is_the_official_networks(shared):
    model, module = with_weights(shared, "tusimple")
    root = shared / "data" / "tusimple"
    scores = []
    for line in (root / "label_data.json").read_text().splitlines():
        label = json.loads(line)
        lanes = model.decoder(**run(model, module, root / label["raw_file"]))
        rows = label["h_samples"]
        scores.append(tusimple.score_image(lanes.at_rows(rows), label["lanes"], rows))
    # Measured with the official network and decoding on these 17 frames: 0.9589.
    assert tusimple.mean(scores).accuracy == pytest.approx(0.9589, abs=5e-5)


@pytest.mark.slow
def test_culane_recall_of_labelled_ego_lines(shared):
    model, module = with_weights(shared, "culane")
    root = shared / "data" / "culane"
    pairs = []
    for name in (root / "list" / "test.txt").read_text().split():
        path = root / name.lstrip("/")
        label = path.with_suffix(".lines.txt").read_text().splitlines()
        anno = [np.float32(line.split()).reshape(-1, 2) for line in label]
        pairs.append((model.decoder(**run(model, module, path)), anno))
    counts = culane.score(pairs)[0]
    assert counts.tp + counts.fn == 158
    assert counts.recall >= 0.92


def test_parameters_are_counted_as_published():
    module = get_model("lstr.tusimple").build()
    # liuruijin17/LSTR's README counts 765,787 for LSTR; its frozen first norm has none (- 32).
    frozen = sum(p.numel() for p in module.bn1.parameters())
    assert sum(p.numel() for p in module.parameters()) - frozen == 765_754


def test_attention_equals_torchs():
    torch.manual_seed(0)
    official = nn.MultiheadAttention(32, 2, batch_first=True).eval()
    attention = Attention(32, 2, queries=7, keys=20)
    attention.load_state_dict(official.state_dict(), strict=True)
    nn.init.normal_(official.in_proj_bias)
    attention.load_state_dict(official.state_dict(), strict=True)
    query, key, value = torch.randn(2, 7, 32), torch.randn(2, 20, 32), torch.randn(2, 20, 32)
    with torch.inference_mode():
        expected = official(query, key, value)[0]
        assert torch.allclose(attention(query, key, value), expected, atol=1e-6)
        expected = official(query, key, torch.zeros_like(value))[0]
        assert torch.allclose(attention.of_zeros().expand_as(expected), expected, atol=1e-6)


def test_bare_name_lists_the_variants():
    with pytest.raises(TrtLaneError, match=r"variants of lstr: lstr\.tusimple, lstr\.culane"):
        get_model("lstr")
