"""IoU of lane masks: how much of two forms' lane pixels are the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trt_lane.errors import TrtLaneError


class MaskIou:
    """Lane pixels of several forms of one network against one form's, over all frames together.

    IoU as in TwinLiteNet's and BDD100K's evaluation (utils.py SegmentationMetric): pixels of all
    frames are counted before they are divided.

    Args:
        decoder: one with `mask(**heads) -> bool (h, w)`.
        reference: name of the form that the others are held against.
    """

    def __init__(self, decoder: Any, reference: str) -> None:
        self._decoder, self._reference = decoder, reference
        self._both: dict[str, int] = {}
        self._either: dict[str, int] = {}

    def add(self, heads: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Count one frame's pixels; heads (*shape) by form and head name."""
        expected = self._decoder.mask(**heads[self._reference])
        for form, found in heads.items():
            mask = self._decoder.mask(**found)
            self._both[form] = self._both.get(form, 0) + int((mask & expected).sum())
            self._either[form] = self._either.get(form, 0) + int((mask | expected).sum())

    def of(self, form: str) -> float:
        """IoU in [0, 1]; 1 where neither form has a lane pixel on any frame.

        Raises:
            TrtLaneError: no frame of that form was counted.
        """
        if form not in self._either:
            raise TrtLaneError(f"no mask of {form!r} was counted; known: {sorted(self._either)}")
        either = self._either[form]
        return self._both[form] / either if either else 1.0


def has_mask(decoder: Any) -> bool:
    """Whether a decoder reads its lanes off one mask, which can be compared as such."""
    return hasattr(decoder, "mask")
