"""Lane non-maximum suppression with the arithmetic of LaneATT's CUDA kernel.

Facts from lucastabelini/LaneATT, commit 2f8583b, lib/nms/src/nms_kernel.cu; CLRNet's copy is the
same. Widths and roundings are the kernel's, so that lanes at the threshold fall to the same side.
"""

from __future__ import annotations

import numpy as np

# Columns of a line: two class logits, start_y, start_x, length, then x of every strip's end.
START_Y, LENGTH, OFFSETS = 2, 4, 5


def lane_nms(lines: np.ndarray, scores: np.ndarray, distance_px: float, at_most: int) -> np.ndarray:
    """Indices of the lines to keep, best first.

    A line falls when its mean distance to a better kept one, over the strips that both have, is
    below `distance_px`. Of equal scores the earlier line is the better.

    Args:
        lines: finite float32 (A, 5 + S): logits, start_y as a fraction, start_x, length in strips,
            x in pixels of each of S offsets.
        scores: float32 (A,).
        distance_px: in the unit of x.
        at_most: lines to keep.
    """
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order) and len(kept) < at_most:
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[~_near(lines[best], lines[order], np.float32(distance_px))]
    return np.array(kept, np.intp)


def _near(line: np.ndarray, others: np.ndarray, distance_px: np.float32) -> np.ndarray:
    """Whether each of the others (B, 5 + S) lies within the distance of the line: bool (B,)."""
    last = line.shape[0] - OFFSETS - 1
    first_a, end_a = _span(line[None], last)
    first_b, end_b = _span(others, last)
    start = np.maximum(first_a, first_b)
    end = np.minimum(np.minimum(end_a, end_b), np.int32(last))
    # The kernel counts columns in an unsigned char: of a line that starts below the image, it
    # reads the columns before the offsets, or none when the count wraps.
    columns = np.arange(line.shape[0])
    begin = (OFFSETS + start) & 0xFF
    both = (columns >= begin[:, None]) & (columns <= OFFSETS + end[:, None])  # (B, 5 + S)
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.where(both, np.abs(line - others), np.float32(0))
        # One after the other in float32, as the kernel's loop adds.
        total = np.add.accumulate(apart, axis=1, dtype=np.float32)[:, -1]
        limit = distance_px * (end - start + np.int32(1)).astype(np.float32)
        return (end >= start) & (total < limit)


def _span(lines: np.ndarray, strips: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last offset of each line, int32; sums in float32, the rounding in float64."""
    length = lines[:, LENGTH]
    with np.errstate(over="ignore"):
        start = _truncated((lines[:, START_Y] * np.float32(strips)).astype(np.float64) + 0.5)
        end = (start.astype(np.float32) + length - np.float32(1)).astype(np.float64) + 0.5
    return start, _truncated(end - (length - 1 < 0))


def _truncated(values: np.ndarray) -> np.ndarray:
    """Towards zero, saturating, as a GPU converts to int."""
    limits = np.iinfo(np.int32)
    return np.clip(np.trunc(values), limits.min, limits.max).astype(np.int32)
