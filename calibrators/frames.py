"""Calibration frames: evenly spread over a data set, as network inputs; labels are never read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from calibrators.collect import spread
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError
from trt_lane.fit import Fit, fit_frame
from trt_lane.image import ImageSpec
from trt_lane.progress import progress


def calibration_frames(spec: str, image: ImageSpec, wanted: int) -> Tensor:
    """Network inputs float32 (F, 3, h, w), F at most `wanted`.

    Frames of another aspect ratio are cropped to the model's, so that a few photos of the user's
    own camera are enough.

    Args:
        spec: as `open_dataset` takes it.
        image: the model's geometry.
        wanted: number of frames.
    """
    if wanted < 1:
        raise TrtLaneError(f"{wanted} calibration frames; expected 1 or more")
    dataset = open_dataset(spec)
    indices = list(spread(len(dataset), wanted))
    inputs = [
        image.to_tensor(fit_frame(dataset.frame(i), image, Fit.CROP).frame)
        for i in progress(indices, len(indices), "frames")
    ]
    return torch.from_numpy(np.stack(inputs))
