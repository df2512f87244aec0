"""TuSimple's accuracy, FP and FN: equal to the official lane.py, number for number.

Source of every rule: TuSimple/tusimple-benchmark, evaluate/lane.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trt_lane.lanes import LaneSet

PIXEL_THRESHOLD = 20.0
POINT_SHARE = 0.85  # a lane is found when this share of its rows is right
RUN_TIME_LIMIT_MS = 200.0
EXTRA_LANES = 2  # more predicted lanes than annotated ones plus this: the image scores nothing
SCORED_LANES = 4  # of five annotated lanes the worst one is forgiven
ABSENT_X = -100.0  # two absent points agree; an absent and a present one never do
FILE_ABSENT_X = -2  # "no point" in TuSimple's files
ROW_TOLERANCE_PX = 1e-2  # rows that a decoder reckoned from fractions of the frame


@dataclass(frozen=True)
class TusimpleScore:
    """Mean accuracy, false-positive and false-negative share of `images` images."""

    accuracy: float
    fp: float
    fn: float
    images: int = 1


def score_image(
    pred: Sequence[Sequence[float]] | np.ndarray,
    anno: Sequence[Sequence[float]] | np.ndarray,
    h_samples: Sequence[float] | np.ndarray,
    run_time_ms: float = 0.0,
) -> TusimpleScore:
    """Score one image.

    Args:
        pred: (L, R) columns of the predicted lanes at the rows `h_samples`; NaN or negative is
            "no point".
        anno: (L, R) columns of the annotated lanes, likewise.
        h_samples: (R,) rows in frame pixels.
        run_time_ms: above 200 the image scores 0 accuracy and 1 FN, as officially.

    Raises:
        ValueError: a lane has not as many columns as there are rows.
    """
    rows = np.asarray(h_samples, np.float64)
    pred_xs, anno_xs = _columns(pred, len(rows)), _columns(anno, len(rows))
    if run_time_ms > RUN_TIME_LIMIT_MS or len(anno_xs) + EXTRA_LANES < len(pred_xs):
        return TusimpleScore(0.0, 0.0, 1.0)
    best = [_best_accuracy(xs, pred_xs, rows) for xs in anno_xs]
    matched = sum(accuracy >= POINT_SHARE for accuracy in best)
    missed, total = len(best) - matched, sum(best)
    if len(anno_xs) > SCORED_LANES:
        missed -= missed > 0
        total -= min(best)
    scored = max(min(SCORED_LANES, len(anno_xs)), 1)
    # `matched` counts annotated lanes, so that two of them on one prediction make fp negative: so
    # does lane.py.
    fp = (len(pred_xs) - matched) / len(pred_xs) if len(pred_xs) else 0.0
    return TusimpleScore(float(total / scored), float(fp), float(missed / scored))


def mean(scores: Iterable[TusimpleScore]) -> TusimpleScore:
    """The score of a set of images: plain means, 0 of no images."""
    scores = list(scores)
    images = len(scores)
    sums = [sum(getattr(s, name) for s in scores) for name in ("accuracy", "fp", "fn")]
    return TusimpleScore(*(s / max(images, 1) for s in sums), images=images)


def file_columns(lanes: LaneSet, h_samples: Sequence[float] | np.ndarray) -> list[list[float]]:
    """Lanes as TuSimple's files hold them: x at each row, -2 where there is none.

    Columns are rounded to a hundredth of a pixel; lanes without a point at any row are left out. A
    lane whose points lie on the rows has -2 between them, too, as the official code of row-wise
    detectors writes it (eval_wrapper.py of UFLDv2, lane_as_segmentation_inference.py of
    pytorch-auto-drive); any other is interpolated.
    """
    rows = np.asarray(h_samples, np.float64)
    columns = []
    for points, xs in zip(lanes.points, lanes.at_rows(rows), strict=True):
        ys = points[np.isfinite(points).all(axis=1), 1]
        on_row = np.abs(ys[:, None] - rows) < ROW_TOLERANCE_PX
        if len(ys) and on_row.any(axis=1).all():
            xs = np.where(on_row.any(axis=0), xs, np.nan)
        present = np.isfinite(xs) & (xs >= 0) & (xs < lanes.frame_hw[1])
        if present.any():
            values = [
                round(float(x), 2) if p else FILE_ABSENT_X for x, p in zip(xs, present, strict=True)
            ]
            columns.append(values)
    return columns


def _columns(lanes: Sequence[Sequence[float]] | np.ndarray, rows: int) -> np.ndarray:
    for lane in lanes:
        if len(lane) != rows:
            raise ValueError(
                f"a lane has {len(lane)} columns; expected one for each of {rows} rows"
            )
    xs = np.asarray(lanes, np.float64).reshape(len(lanes), rows)
    return np.where(xs >= 0, xs, ABSENT_X)  # NaN is not >= 0 either


def _best_accuracy(anno_xs: np.ndarray, pred_xs: np.ndarray, rows: np.ndarray) -> float:
    """Largest share of rows at which one prediction is within reach of the annotated lane."""
    if not len(pred_xs):
        return 0.0
    reach_px = PIXEL_THRESHOLD / np.cos(_angle(anno_xs, rows))
    right = np.abs(pred_xs - anno_xs) < reach_px  # (L, R)
    return float(right.sum(axis=1).max() / len(rows))


def _angle(xs: np.ndarray, rows: np.ndarray) -> float:
    """Angle of the least-squares line x(y) to the vertical; 0 for fewer than two points."""
    present = xs >= 0
    if present.sum() < 2:
        return 0.0
    x = xs[present] - xs[present].mean()
    y = rows[present] - rows[present].mean()
    spread = y @ y
    return float(np.arctan(y @ x / spread)) if spread > 0 else 0.0
