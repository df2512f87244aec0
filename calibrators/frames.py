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


def frame_warnings(frames: Tensor) -> list[str]:
    """What makes frames a poor basis for steps, one sentence each; [] when there is nothing.

    Steps are made of them all the same, by the same rules: they fit what was there.

    Args:
        frames: network inputs float32 (F, 3, h, w).
    """
    count = len(frames)
    advice = "calibrate on some dozens of different road images"
    same = all(torch.equal(frame, frames[0]) for frame in frames)
    blank = sum(bool((frame.amax((1, 2)) == frame.amin((1, 2))).all()) for frame in frames)
    warnings = []
    if blank:
        warnings.append(f"{blank} of {count} calibration frames show one colour only; {advice}")
    if same:
        what = (
            "there is one calibration frame"
            if count == 1
            else (f"all {count} calibration frames are the same")
        )
        warnings.append(f"{what}: steps fit that image and may clip on others; {advice}")
    return warnings
