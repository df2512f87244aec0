"""Row anchors: soft labels over the two cells that a point lies between, and "no lane".

The classification is that of UFLD (arXiv 2004.11757), whose labels are single cells. A label shared
by two cells makes the decoder's expectation exact: the place is learnt finer than a cell.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.recipe import TrainingRecipe
from trt_lane.errors import TrtLaneError
from trt_lane.lanes import LaneSet
from trt_lane.model import LaneModel

RECIPE = TrainingRecipe()

# A present row shares its probability among two and, while the place is unsure, more cells; "no
# lane" meets only the largest share in the decoder's argmax, so it must weigh less. Measured on the
# demo of UFLD half-way through its training: F1 .66 with 0.5, .71 with what amounts to 0.1 to 0.2.
NO_LANE_WEIGHT = 0.15
# Of the expectation's distance in cells. A lane counts when it is about 8 px, half a cell, off.
LOCATION_WEIGHT = 1.0


def targets(model: LaneModel, lanes: np.ndarray) -> dict[str, np.ndarray]:
    """Where each lane crosses each row anchor.

    Returns:
        "cell": float32 (R, L), the value that the expectation over cells should have; NaN for none.
    """
    decoder = model.decoder
    if len(lanes) != decoder.lanes:
        raise TrtLaneError(
            f"{model.name} has {decoder.lanes} lanes; the synthetic roads label {len(lanes)} slots"
        )
    lane_set = LaneSet(lanes, np.ones(len(lanes)), decoder.frame_hw)
    x = lane_set.at_rows(np.asarray(decoder.rows_px)).T  # (R, L)
    cell = (x - decoder.x_offset_px) / decoder.cell_px - decoder.cell_offset
    # Within half a cell of the first or last centre a point is still on the grid.
    on_grid = (cell >= -0.5) & (cell <= decoder.cells - 0.5)
    return {"cell": np.where(on_grid, np.clip(cell, 0, decoder.cells - 1), np.nan)}


def loss(model: LaneModel, heads: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Cross-entropy with shared labels plus the distance of the expectation, in cells."""
    (head,) = model.heads
    logits, cell = heads[head.name], targets["cell"].float()  # (N, G + 1, R, L), (N, R, L)
    cells = model.decoder.cells
    present = ~cell.isnan()
    cell = torch.where(present, cell, 0)
    left = cell.floor().clamp(max=cells - 2)
    share = cell - left  # of the label that the right cell gets
    left = left.long().unsqueeze(1)

    log_prob = F.log_softmax(logits, dim=1)
    at_left = log_prob.gather(1, left).squeeze(1)
    at_right = log_prob.gather(1, left + 1).squeeze(1)
    placed = -((1 - share) * at_left + share * at_right)
    absent = -NO_LANE_WEIGHT * log_prob[:, cells]
    classification = torch.where(present, placed, absent).mean()

    places = logits[:, :cells].softmax(dim=1)
    index = torch.arange(cells, dtype=places.dtype).view(1, -1, 1, 1)
    # Linear beyond a tenth of a cell: a squared error would neglect the last half cell.
    distance = F.smooth_l1_loss((places * index).sum(1), cell, reduction="none", beta=0.1)
    location = torch.where(present, distance, 0).sum() / present.sum().clamp(min=1)
    return classification + LOCATION_WEIGHT * location
