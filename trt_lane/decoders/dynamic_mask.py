"""Dynamic masks: lanes at the peaks of a heat map, each a column per row of a mask (CondLaneNet).

Decoding follows aliyun/conditional-lane-detection, commit c57b242 (ctdet_decode in
dense_heads/condlanenet_head.py, tools/condlanenet/post_process.py, adjust_result in
tools/condlanenet/*/test_*.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trt_lane.lanes import LaneSet

# The official heat map is clamped to [1e-4, 1 - 1e-4] before peaks are sought: this logit and up
# are one plateau.
HEAT_LIMIT_LOGIT = float(np.log(9999))
NO_PEAK_LOGIT = -20.0  # stands for a cell that is no peak, below every clamped logit


@dataclass(frozen=True)
class DynamicMask:
    """Numbers of a dynamic-mask head.

    The network fills K slots with the highest peaks of the heat map; those above the threshold come
    first, in the order of the map's columns. So the slot of a peak follows from the heat map alone.

    Attributes:
        frame_hw: height and width of the frame that the points refer to.
        crop_top: rows cut off the top of the frame.
        input_hw: height and width of the network input, to which the rest of the frame is resized.
        heat_hw: height and width of the heat map.
        mask_hw: height and width of the masks.
        nms_cells: start points up to this many cells apart are one.
        slots: lanes, or groups of lanes with one start point, that the network draws.
        steps: lanes that may share a start point.
        threshold: probability that a start point exceeds.
    """

    frame_hw: tuple[int, int]
    crop_top: int
    input_hw: tuple[int, int]
    heat_hw: tuple[int, int]
    mask_hw: tuple[int, int]
    nms_cells: float
    slots: int = 20
    steps: int = 1
    threshold: float = 0.5

    def __post_init__(self) -> None:
        sizes = (*self.frame_hw, *self.input_hw, *self.heat_hw, *self.mask_hw)
        if min(*sizes, self.slots, self.steps) < 1:
            raise ValueError("all sizes, slots and steps must be at least 1")
        if self.slots > self.heat_hw[0] * self.heat_hw[1]:
            raise ValueError(f"{self.slots} slots; expected at most one per cell of {self.heat_hw}")
        if not 0 <= self.crop_top < self.frame_hw[0]:
            raise ValueError(f"crop_top is {self.crop_top}; expected 0..{self.frame_hw[0] - 1}")
        if not 1e-4 < self.threshold < 1 - 1e-4:
            raise ValueError(f"threshold is {self.threshold}; expected more than 1e-4, less than 1")
        if not (self.nms_cells >= 0 and np.isfinite(self.nms_cells)):
            raise ValueError(f"nms_cells is {self.nms_cells}; expected a finite distance >= 0")

    @property
    def threshold_logit(self) -> float:
        """The threshold before the sigmoid."""
        return float(np.log(self.threshold / (1 - self.threshold)))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every head."""
        lanes = (self.slots,) if self.steps == 1 else (self.slots, self.steps)
        shapes = {
            "hm_logits": (1, *self.heat_hw),
            "peaks": (self.slots,),
            "masks": (*lanes, *self.mask_hw),
            "regs": (*lanes, *self.mask_hw),
            "ranges": (*lanes, 2, self.mask_hw[0]),
        }
        return shapes if self.steps == 1 else {**shapes, "states": (*lanes, 2)}

    def __call__(
        self,
        hm_logits: np.ndarray,
        peaks: np.ndarray,
        masks: np.ndarray,
        regs: np.ndarray,
        ranges: np.ndarray,
        states: np.ndarray | None = None,
    ) -> LaneSet:
        """Lanes of one frame, in the official order: by the row, then the column of the start.

        Args:
            hm_logits: (1, h, w) heat map of start points before the sigmoid.
            peaks: (K,) the heat of each slot's start point before the sigmoid.
            masks: (K, H, W) or (K, T, H, W) for each row, logits of the columns.
            regs: like masks, offset in cells from the left edge of a column.
            ranges: (K, 2, H) or (K, T, 2, H) logits of the row without and with the lane.
            states: (K, T, 2) logits of this being the last lane of the start point, or not; only
                when steps > 1.
        """
        given = {"hm_logits": hm_logits, "peaks": peaks, "masks": masks, "regs": regs}
        given |= {"ranges": ranges} | ({} if states is None else {"states": states})
        heads = self._checked(given)
        lanes, scores = [], []
        for slot in self._start_points(heads["hm_logits"][0]):
            peak = heads["peaks"][slot]
            if not peak > self.threshold_logit:  # as for NaN
                continue
            for step in range(self._lane_count(heads, slot)):
                at = slot * self.steps + step
                lane = self._lane(heads["masks"][at], heads["regs"][at], heads["ranges"][at])
                if len(lane) > 1:
                    lanes.append(lane)
                    scores.append(_sigmoid(min(peak, HEAT_LIMIT_LOGIT)))
        return LaneSet.from_lanes(lanes, self.frame_hw, scores)

    def _checked(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The heads as float32, lanes along one axis (K * T, ...)."""
        if given.keys() != self.shapes.keys():
            raise ValueError(f"heads are {', '.join(given)}; expected {', '.join(self.shapes)}")
        heads = {}
        for name, expected in self.shapes.items():
            head = np.asarray(given[name], np.float32)
            if head.shape != expected:
                raise ValueError(f"{name} has shape {head.shape}; expected {expected}")
            heads[name] = head
        for name in ("masks", "regs", "ranges"):
            heads[name] = heads[name].reshape(-1, *heads[name].shape[-2:])
        return heads

    def _start_points(self, logits: np.ndarray) -> list[int]:
        """Slots of the start points (h, w) that remain after neighbours were joined."""
        heat = np.where(np.isfinite(logits), logits, NO_PEAK_LOGIT)
        heat = heat.clip(-HEAT_LIMIT_LOGIT, HEAT_LIMIT_LOGIT)
        x, y = np.nonzero((_peaks(heat) & (heat > self.threshold_logit)).T)  # column by column
        if len(x) > self.slots:  # the network kept the highest ones
            highest = np.argsort(-heat[y, x], kind="stable")[: self.slots]
            x, y = x[np.sort(highest)], y[np.sort(highest)]
        by_row = np.lexsort((x, y))
        places = np.stack([x, y], axis=1)[by_row]
        label = np.empty(len(places), int)
        last: list[int] = []
        for i, place in enumerate(places):
            apart = np.sqrt(((places[:i] - place) ** 2).sum(axis=1))
            near = label[:i][apart <= self.nms_cells]
            label[i] = near.min() if len(near) else len(last)
            # The official "highest score" never updates its maximum: the last one is taken.
            if label[i] == len(last):
                last.append(i)
            else:
                last[label[i]] = i
        return [int(by_row[i]) for i in last]

    def _lane_count(self, heads: dict[str, np.ndarray], slot: int) -> int:
        """Lanes of a start point: up to and with the first state that names no other."""
        if self.steps == 1:
            return 1
        state = heads["states"][slot]
        ends = np.flatnonzero(~(state[:, 1] > state[:, 0]))
        return int(ends[0]) + 1 if len(ends) else self.steps

    def _lane(self, mask: np.ndarray, offset: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Points (P, 2) in frame pixels, bottom first, of (H, W), (H, W) and (2, H)."""
        rows = np.flatnonzero(present[1] > present[0])
        if not len(rows):
            return np.empty((0, 2))
        # The official range takes in one more row on either side, and every row between.
        rows = np.arange(max(rows[0] - 1, 0), min(rows[-1] + 1, len(mask) - 1) + 1)[::-1]
        rows = rows[np.isfinite(mask[rows]).all(axis=1)]
        # Cut down to a column below: a sum in float32 would depend on the order of its terms, which
        # is that of this machine's BLAS.
        expected = _softmax(mask[rows]).astype(np.float64) @ np.arange(mask.shape[1])
        columns = expected.astype(np.float32).astype(int).clip(0, mask.shape[1] - 1)
        x = columns + offset[rows, columns]
        points = np.stack([x, rows.astype(np.float32)], axis=1)
        stride = self.input_hw[0] / self.mask_hw[0]
        scale_x = self.frame_hw[1] / self.input_hw[1]
        scale_y = (self.frame_hw[0] - self.crop_top) / self.input_hw[0]
        pixels = points.astype(np.float64) * stride * (scale_x, scale_y) + (0, self.crop_top)
        return pixels[np.isfinite(pixels).all(axis=1)]


def _peaks(heat: np.ndarray) -> np.ndarray:
    """Whether a cell (h, w) is no less than its eight neighbours."""
    height, width = heat.shape
    padded = np.pad(heat, 1, constant_values=-np.inf)
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return heat >= np.max(around, axis=0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis; finite float32 of any size."""
    with np.errstate(over="ignore"):  # -3e38 - 3e38 is -inf, whose exp is 0
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


DECODER = DynamicMask
