"""What stands for the official post-processing gives our decoders' lanes, case by case."""

import numpy as np
import pytest

from benchmarks.official_style import official_style
from trt_lane.decoders.lane_mask import LaneMask
from trt_lane.model import get_model

# A small network of each representation that has a loop version.
MODELS = ("ufld", "laneatt", "erfnet", "bezierlanenet", "ganet", "lstr.culane")


def made_heads(model, seed):
    """Random heads of the model's shapes, likely enough to hold lanes."""
    rng = np.random.default_rng(seed)
    heads = {h.name: rng.normal(0, 1, h.shape).astype(np.float32) for h in model.heads}
    name = type(model.decoder).__module__.rpartition(".")[2]
    if name == "row_anchor":
        heads["logits"][-1] -= 2
    elif name == "line_anchor":
        heads["cls"][:, 1] += 1
        heads["extent"] = rng.uniform(0, 0.6, heads["extent"].shape).astype(np.float32)
        full = model.decoder.x_full
        heads["xs"] = (rng.uniform(0.3, 0.7, heads["xs"].shape) * full).astype(np.float32)
        heads["extent"][:, -1] = rng.uniform(5, 60, len(heads["extent"])) / (
            model.decoder.length_strips
        )
    elif name == "segmentation":
        # Patches as large as the decoder's blur, or nothing is left of them.
        classes, height, width = heads["out"].shape
        patches = rng.normal(0, 6, (classes, -(-height // 16), -(-width // 16)))
        heads["out"] += np.kron(patches, np.ones((1, 16, 16)))[:, :height, :width]
        heads["lane"] += 1
    elif name == "bezier_curve":
        heads["logits"] += 3
        heads["curves"] = rng.uniform(0.1, 0.9, heads["curves"].shape).astype(np.float32)
    elif name == "keypoint_grouping":
        heads["pts_offset"] = np.abs(heads["pts_offset"]) * 3
    elif name == "lstr_curve":
        heads["pred_curves"] = rng.uniform(0, 0.3, heads["pred_curves"].shape).astype(np.float32)
        heads["pred_curves"][:, 1] = 0.95
        heads["pred_curves"][:, 5] += 0.3
    return {name: np.asarray(head, np.float32) for name, head in heads.items()}


@pytest.mark.parametrize("name", MODELS)
def test_lanes_are_those_of_our_decoder(name):
    model = get_model(name)
    loops = official_style(model.decoder)
    seen = 0
    for seed in range(6):
        heads = made_heads(model, seed)
        ours = model.decoder(**heads).lanes()
        theirs = loops(**heads)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            a, b = (x[np.argsort(-x[:, 1], kind="stable")] for x in (a, b))
            np.testing.assert_allclose(a, b, rtol=0, atol=1.01 if "ganet" in name else 0.02)
        seen += len(ours)
    assert seen >= 6


def test_a_decoder_that_nobody_wrote_in_loops_has_none():
    assert official_style(LaneMask.__new__(LaneMask)) is None
