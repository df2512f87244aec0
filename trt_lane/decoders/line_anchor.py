"""Line anchors: score, extent and x on every strip of each of many lines (LaneATT, CLRNet).

Decoding follows lucastabelini/LaneATT (commit 2f8583b, lib/models/laneatt.py: nms, decode,
proposals_to_pred) and Turoad/CLRNet (commit 7269e9d, clrnet/models/heads/clr_head.py: get_lanes,
predictions_to_pred): threshold, lane NMS, cut by length, extension downwards inside the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_lane.decoders._lane_nms import lane_nms
from trt_lane.lanes import LaneSet


@dataclass(frozen=True)
class LineAnchor:
    """Numbers of a line-anchor head.

    Offset i of a line lies i / (offsets - 1) of the way up from the frame's bottom to `crop_top`.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        anchors: lines A of the heads.
        offsets: x values S of a line.
        extent_channels: channels of the extent head: start_y and start_x come first, the length
            last.
        x_full: value of an x at the right edge of the frame.
        x_px: pixels per unit of x, for the NMS distance.
        length_strips: strips per unit of length.
        crop_top: row of the frame where the topmost offset lies.
        threshold: least foreground probability of a lane.
        inclusive: whether a probability equal to the threshold is a lane.
        distance_px: lines nearer to a better one than this are dropped.
        max_lanes: lanes kept by the NMS.
    """

    frame_hw: tuple[int, int]
    anchors: int
    offsets: int
    extent_channels: int
    x_full: float
    x_px: float
    length_strips: float
    crop_top: int = 0
    threshold: float = 0.5
    inclusive: bool = False
    distance_px: float = 50.0
    max_lanes: int = 4

    def __post_init__(self) -> None:
        if min(self.anchors, self.max_lanes, *self.frame_hw) < 1 or self.offsets < 2:
            raise ValueError("anchors, max_lanes and frame_hw must be positive, offsets at least 2")
        if self.extent_channels < 3:
            raise ValueError(
                f"extent_channels is {self.extent_channels}; expected start_y, start_x, ..., length"
            )
        scales = (self.x_full, self.x_px, self.length_strips)
        if not (np.isfinite(scales).all() and min(scales) > 0):
            raise ValueError(f"x_full, x_px, length_strips are {scales}; expected positive numbers")
        if not np.isfinite([self.threshold, self.distance_px]).all():
            raise ValueError("threshold and distance_px must be finite")
        if not 0 <= self.crop_top < self.frame_hw[0]:
            raise ValueError(f"crop_top is {self.crop_top}; expected 0..{self.frame_hw[0] - 1}")

    def __call__(self, cls: np.ndarray, extent: np.ndarray, xs: np.ndarray) -> LaneSet:
        """Lanes of one frame, best first.

        Args:
            cls: (A, 2) logits of background and lane.
            extent: (A, extent_channels): start_y as a fraction of the height above the bottom,
                start_x (unused), ..., length.
            xs: (A, S) x from the bottom upwards.
        """
        cls, extent, xs = (np.asarray(head, np.float32) for head in (cls, extent, xs))
        expected = {
            "cls": (cls, (self.anchors, 2)),
            "extent": (extent, (self.anchors, self.extent_channels)),
            "xs": (xs, (self.anchors, self.offsets)),
        }
        for name, (head, shape) in expected.items():
            if head.shape != shape:
                raise ValueError(f"{name} has shape {head.shape}; expected {shape}")
        sound = np.isfinite(np.concatenate([cls, extent, xs], axis=1)).all(axis=1)
        scores = _foreground(np.where(sound[:, None], cls, 0))
        threshold = np.float32(self.threshold)
        likely = scores >= threshold if self.inclusive else scores > threshold
        chosen = np.flatnonzero(sound & likely)
        with np.errstate(over="ignore"):  # a number beyond float32 is far from every line
            lines = np.concatenate(
                [
                    cls[chosen],
                    extent[chosen, :2],
                    extent[chosen, -1:] * np.float32(self.length_strips),
                    xs[chosen] * np.float32(self.x_px),
                ],
                axis=1,
            )
        chosen = chosen[lane_nms(lines, scores[chosen], self.distance_px, self.max_lanes)]
        lanes = [self._points(extent[i], xs[i]) for i in chosen]
        kept = [i for i, lane in enumerate(lanes) if len(lane) > 1]
        return LaneSet.from_lanes(
            [lanes[i] for i in kept], self.frame_hw, scores[chosen[kept]] if kept else []
        )

    def _points(self, extent: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """Frame pixels (P, 2) of one line, bottom first."""
        strips = self.offsets - 1
        start = min(max(0, round(float(extent[0]) * strips)), strips)
        # Longer than any line in either direction is as good as infinite, and can be rounded.
        length = np.clip(extent[-1].astype(np.float64) * self.length_strips, -1e9, 1e9)
        end = min(start + round(float(np.float32(length))) - 1, strips)
        places = xs / np.float32(self.x_full)
        inside = (places[:start] >= 0) & (places[:start] <= 1)
        reached = np.logical_and.accumulate(inside[::-1])[::-1]
        # A negative slice counts from the other end: so does the official cut of a negative length.
        places[end + 1 :] = -1
        places[:start][~reached] = -1
        at = np.flatnonzero(places >= 0)
        top, bottom = self.crop_top, self.frame_hw[0]
        rows = np.linspace(bottom, top, self.offsets)
        return np.column_stack([places[at].astype(np.float64) * self.frame_hw[1], rows[at]])


def _foreground(logits: np.ndarray) -> np.ndarray:
    """Softmax probability of the second of two classes, float32 (A,) from (A, 2).

    float32 as in the official code: sure lanes then tie at 1, and the NMS takes the first.
    """
    with np.errstate(over="ignore"):
        weights = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    weights = weights.astype(np.float32)
    return weights[:, 1] / (weights[:, 0] + weights[:, 1])


DECODER = LineAnchor
