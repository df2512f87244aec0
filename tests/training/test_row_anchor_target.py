import numpy as np
import pytest
import torch
from tiny_training import straight_lanes, tiny_model

from training.targets import targets_of
from training.targets.row_anchor import loss, targets
from trt_lane.errors import TrtLaneError
from trt_lane.model import get_model

LANES = straight_lanes((150, 640), (600, 760), (1020, 850), None)


def logits_of(model, cell: np.ndarray) -> torch.Tensor:
    """Logits whose softmax is the shared label: (1, G + 1, R, L)."""
    cells, (rows, lanes) = model.decoder.cells, cell.shape
    probability = np.full((cells + 1, rows, lanes), 1e-9, np.float32)
    for r, lane in np.ndindex(rows, lanes):
        if np.isnan(cell[r, lane]):
            probability[cells, r, lane] = 1
        else:
            left = min(int(cell[r, lane]), cells - 2)
            share = cell[r, lane] - left
            probability[left, r, lane] = max(1 - share, 1e-9)
            probability[left + 1, r, lane] = max(share, 1e-9)
    return torch.from_numpy(np.log(probability))[None]


@pytest.mark.parametrize("name", ["tiny", "ufld", "ufld.r18_culane"])
def test_targets_go_through_the_decoder_to_the_same_lanes(name):
    model = tiny_model() if name == "tiny" else get_model(name)
    cell = targets(model, LANES)["cell"]
    decoded = model.decoder(logits=logits_of(model, cell)[0].numpy())
    assert len(decoded) == 3
    truth = [lane[np.isfinite(lane[:, 0])] for lane in LANES[:3]]
    for found, true in zip(decoded.lanes(), truth, strict=True):
        assert len(found) > 5
        x = np.interp(found[:, 1], true[::-1, 1], true[::-1, 0])
        assert np.abs(found[:, 0] - x).max() < 2


def test_points_beyond_the_grid_and_the_lane_have_no_target():
    model = tiny_model()
    lanes = straight_lanes((-200, 640), None, None, (2500, 850))
    cell = targets(model, lanes)["cell"]
    assert np.isnan(cell[-1]).all()  # row 590: both lanes are out of the frame there
    assert np.isfinite(cell[0, [0, 3]]).all()
    assert np.nanmin(cell) >= 0 and np.nanmax(cell) <= model.decoder.cells - 1


def test_loss_is_least_at_the_target():
    model = tiny_model()
    cell = targets(model, LANES)["cell"]
    batch = {"cell": torch.from_numpy(cell)[None]}
    best = loss(model, {"logits": logits_of(model, cell)}, batch)
    for wrong in (cell + 0.5, cell + 3, np.full_like(cell, np.nan), np.full_like(cell, 4.0)):
        worse = np.clip(wrong, 0, model.decoder.cells - 1)
        assert loss(model, {"logits": logits_of(model, worse)}, batch) > best + 0.01


def test_loss_of_a_frame_without_lanes_is_finite():
    model = tiny_model()
    nothing = {"cell": torch.full((1, 9, 4), torch.nan)}
    logits = torch.zeros(1, *model.decoder.head_shape, requires_grad=True)
    value = loss(model, {"logits": logits}, nothing)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()


def test_decoder_without_training_target_is_an_error_that_names_the_file_to_write():
    from dataclasses import make_dataclass, replace

    unknown = make_dataclass("Unknown", [])
    unknown.__module__ = "trt_lane.decoders.unheard_of"
    with pytest.raises(TrtLaneError, match=r"training/targets/unheard_of\.py"):
        targets_of(replace(tiny_model(), decoder=unknown()))


def test_other_number_of_lanes_than_the_roads_label_is_an_error():
    with pytest.raises(TrtLaneError, match="4 lanes"):
        targets(tiny_model(), LANES[:3])
