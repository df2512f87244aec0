"""Lane Distortion Score: how far quantisation bends the lanes that come out of the decoder.

The score and its use are the idea of "Selective Focus" (AAAI 2024, arXiv 2405.06264): distance
between lane points before and after quantisation plus a penalty for points without a partner. Its
code was never published; the formulas here are our reading of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_lane.lanes import LaneSet
from trt_lane.metrics.assignment import match_cheapest

ROW_STEP_PX = 10
TAU_PX = 30.0  # at TAU_FRAME_WIDTH; scaled with the frame's width
TAU_FRAME_WIDTH = 1640


def tau_px(frame_hw: tuple[int, int]) -> float:
    """The distance in pixels of such a frame at which two points count as unrelated."""
    return TAU_PX * frame_hw[1] / TAU_FRAME_WIDTH


def common_rows(frame_hw: tuple[int, int]) -> np.ndarray:
    """The rows at which lanes are compared, float32 (R,): every 10 px, bottom edge included."""
    return np.arange(0, frame_hw[0] + 1, ROW_STEP_PX, dtype=np.float32)


def lane_distance(xs: np.ndarray, other_xs: np.ndarray, tau: float) -> np.ndarray:
    """Mean distance in pixels of lanes given by their columns at common rows, in [0, tau].

    Our reading: [sum over rows both have of min(|xa - xb|, tau) + tau * rows only one has] / rows
    either has. Symmetric; 0 for two lanes without any row.

    Args:
        xs: (..., R) columns, NaN where the lane has no point.
        other_xs: (..., R), broadcast against `xs`.
        tau: in pixels.

    Returns:
        float64 (...).
    """
    gap = np.abs(np.asarray(xs, np.float64) - np.asarray(other_xs, np.float64))
    has, other_has = np.isfinite(xs), np.isfinite(other_xs)
    either = (has | other_has).sum(axis=-1)
    per_row = np.where(has & other_has, np.fmin(gap, tau), tau * (has ^ other_has))
    return per_row.sum(axis=-1) / np.maximum(either, 1)


def lane_distortion_score(lanes: LaneSet, lanes_q: LaneSet) -> float:
    """LDS of one frame in pixels of `lanes`' frame, in [0, tau]; 0 when no lane moved.

    Our reading: [sum over matched pairs of `lane_distance` + tau * unmatched lanes]
    / max(|L|, |Lq|, 1). The matching minimises this total. It pairs as many lanes as it can, which
    is no restriction: a pair costs at most tau, leaving both alone would cost 2 tau. Symmetric for
    lanes of equal frame size.

    Args:
        lanes: the float model's lanes.
        lanes_q: the quantised model's; scaled to the frame of `lanes` where sizes differ.
    """
    if lanes_q.frame_hw != lanes.frame_hw:
        lanes_q = lanes_q.scaled_to(lanes.frame_hw)
    most, fewest = max(len(lanes), len(lanes_q)), min(len(lanes), len(lanes_q))
    if most == 0:
        return 0.0
    tau = tau_px(lanes.frame_hw)
    cost = tau * (most - fewest)
    if fewest:
        rows = common_rows(lanes.frame_hw)
        xs, xs_q = lanes.at_rows(rows), lanes_q.at_rows(rows)
        distances = lane_distance(xs[:, None], xs_q[None], tau)  # (L, Lq)
        partner = match_cheapest(distances)
        cost += sum(distances[i, j] for i, j in enumerate(partner) if j >= 0)
    return float(cost / most)


def mean_lane_distortion_score(lanes: Sequence[LaneSet], lanes_q: Sequence[LaneSet]) -> float:
    """LDS averaged over images, paired by position; 0 of no images."""
    scores = [lane_distortion_score(a, b) for a, b in zip(lanes, lanes_q, strict=True)]
    return float(np.mean(scores)) if scores else 0.0
