"""Segmentation: one class per lane, background first, and one existence logit per lane.

Decoding follows voldemortX/pytorch-auto-drive 137e63a (lane_as_segmentation_inference): bring the
logits to the network input's size, softmax, blur each existing lane's map, and take on fixed rows
the column of the largest probability. Points stay float where the official code truncates.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trt_lane.lanes import LaneSet

MIN_POINTS = 2
# A map's sides are rounded up to whole steps of its stride: 184 x 320 for an input of 360 x 640.
ASPECT_TOLERANCE = 0.05


@dataclass(frozen=True)
class Segmentation:
    """Numbers of a segmentation decoder.

    Point j of a lane, from the bottom, is in frame row H - (first_gap + j) * gap_px - lift_px; it
    is read in the map's row at the same share of the height, lifted by lift_px rows of the map.

    Attributes:
        frame_hw: height H and width of the frame that the points refer to.
        input_hw: height and width of the network input; the map is brought to it.
        lanes: L; the map has L + 1 classes.
        max_lanes: of more existing lanes, the least certain ones are dropped; 0 keeps all.
        gap_px: frame rows between two points.
        points: rows that are read.
        first_gap: gaps between the bottom of the frame and the first point.
        lift_px: rows that every point is lifted, in the frame and in the map.
        threshold: a row whose largest blurred probability is not above it has no point.
        existence_threshold: a lane is there if its probability is above it.
        blur_px: side of the box filter in map pixels, odd.
    """

    frame_hw: tuple[int, int]
    input_hw: tuple[int, int]
    lanes: int = 4
    max_lanes: int = 4
    gap_px: int = 20
    points: int = 18
    first_gap: int = 0
    lift_px: int = 1
    threshold: float = 0.3
    existence_threshold: float = 0.5
    blur_px: int = 9

    def __post_init__(self) -> None:
        if min(self.lanes, self.gap_px, self.points, *self.frame_hw, *self.input_hw) < 1:
            raise ValueError("lanes, gap_px, points, frame_hw and input_hw must be at least 1")
        if min(self.max_lanes, self.first_gap, self.lift_px) < 0:
            raise ValueError("max_lanes, first_gap and lift_px must not be negative")
        if not (self.first_gap or self.lift_px):
            raise ValueError(
                "first_gap and lift_px are 0, so the first point would lie below the map; "
                "expected one of them above 0 (officially lift_px 1)"
            )
        if self.blur_px < 1 or self.blur_px % 2 == 0:
            raise ValueError(f"blur_px is {self.blur_px}; expected an odd side of the box filter")
        if not (np.isfinite([self.threshold, self.existence_threshold]).all()):
            raise ValueError("threshold and existence_threshold must be finite")

    def __call__(self, out: np.ndarray, lane: np.ndarray) -> LaneSet:
        """Lanes of one frame.

        Args:
            out: class logits (L + 1, h, w), background first, at any share of the input's size.
            lane: existence logits (L,).
        """
        out, lane = np.asarray(out, np.float32), np.asarray(lane, np.float32)
        self._check_shapes(out, lane)
        existence = _sigmoid(lane)  # NaN and infinity: 0
        existing = np.flatnonzero(existence > self.existence_threshold)
        if self.max_lanes:
            existing = _keep_most_certain(existing, existence, self.max_lanes)
        lanes, scores = [], []
        if len(existing):
            probabilities = self._probabilities(out)
            for i in existing:
                points = self._read_lane(probabilities[i + 1])
                if len(points) >= MIN_POINTS:
                    lanes.append(points)
                    scores.append(existence[i])
        return LaneSet.from_lanes(lanes, self.frame_hw, scores)

    def _check_shapes(self, out: np.ndarray, lane: np.ndarray) -> None:
        if lane.shape != (self.lanes,):
            raise ValueError(f"lane has shape {lane.shape}; expected {(self.lanes,)}")
        height, width = self.input_hw
        fits = out.ndim == 3 and out.shape[0] == self.lanes + 1 and min(out.shape) > 0
        if fits:
            ratio = out.shape[1] * width / (out.shape[2] * height)
            fits = abs(ratio - 1) <= ASPECT_TOLERANCE
        if not fits:
            raise ValueError(
                f"out has shape {out.shape}; expected ({self.lanes + 1}, h, w) where h / w is "
                f"{height} / {width}, the network input's"
            )

    def _probabilities(self, out: np.ndarray) -> np.ndarray:
        """Softmax (L + 1, H, W) at the network input's size; background where `out` is unsound."""
        sound = np.isfinite(out).all(axis=0)
        if not sound.all():
            out = np.where(sound, out, -BACKGROUND_MARGIN)
            out[0][~sound] = BACKGROUND_MARGIN
        out = _upsample(out, self.input_hw)
        with np.errstate(over="ignore"):  # -3e38 - 3e38 is -inf, whose exp is 0
            weights = np.exp(out - out.max(axis=0))
        return weights / weights.sum(axis=0)

    def _read_lane(self, probability: np.ndarray) -> np.ndarray:
        """Points (P, 2) of one lane in frame pixels, bottom first."""
        side = self.blur_px
        blurred = cv2.blur(probability, (side, side), borderType=cv2.BORDER_REPLICATE)
        height, width = blurred.shape
        frame_height, frame_width = self.frame_hw
        points = []
        for i in range(self.first_gap, self.first_gap + self.points):
            row = int(height - i * self.gap_px / frame_height * height - self.lift_px)
            if row < 0:
                break
            column = blurred[row].argmax()
            x = column / width * frame_width
            # Official: column 0 of the frame means "no point".
            if blurred[row, column] > self.threshold and x >= 1:
                points.append((x, frame_height - i * self.gap_px - self.lift_px))
        return np.float32(points).reshape(-1, 2)


# Logits of a pixel that holds NaN or infinity: surely background.
BACKGROUND_MARGIN = 30.0


def _keep_most_certain(existing: np.ndarray, existence: np.ndarray, count: int) -> np.ndarray:
    """The `count` most certain of the existing lanes; lanes tied for the last place all go."""
    while len(existing) > count:
        existing = existing[existence[existing] > existence[existing].min()]
    return existing


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """Element-wise, float32; 0 where the logit is not finite."""
    sound = np.isfinite(logits)
    with np.errstate(over="ignore"):
        return np.where(sound, 1 / (1 + np.exp(-np.where(sound, logits, 0))), 0)


def _upsample(maps: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Bilinear resize of (C, h, w) with aligned corners, as in torch."""
    if maps.shape[1:] == size_hw:
        return maps
    rows, columns = (_weights(n, m) for n, m in zip(maps.shape[1:], size_hw, strict=True))
    return rows @ maps @ columns.T


def _weights(inputs: int, outputs: int) -> np.ndarray:
    """Linear interpolation as a matrix (outputs, inputs) float32; corners on corners."""
    position = np.linspace(0, inputs - 1, outputs)
    grid = np.arange(inputs)
    return np.maximum(0, 1 - np.abs(position[:, None] - grid)).astype(np.float32)


DECODER = Segmentation
