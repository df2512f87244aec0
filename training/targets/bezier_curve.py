"""Bézier curves: a cubic through each lane's points, learnt by the columns nearest to it.

Losses and weights are those of BézierLaneNet (arXiv 2203.02431) in voldemortX/pytorch-auto-drive,
commit 137e63a (utils/losses/hungarian_bezier_loss.py): L1 between points sampled along the curves,
binary cross-entropy of the columns. Our reading: officially a Hungarian matching of predictions and
lanes says which column learns a lane, and changes as the network does; here the lane's mean place
says it, and the columns weigh more, which a training of an hour learns sooner. The official
auxiliary segmentation needs a head that inference has not, and is left out.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.recipe import TrainingRecipe
from trt_lane.decoders.bezier_curve import CONTROL_POINTS, BezierCurve
from trt_lane.model import LaneModel

# Rendering and validation come on top.
RECIPE = TrainingRecipe(frames=8_192, minutes=40, validations=8, learning_rate=1.5e-3, trunk="ufld")

# Officially 0.1, over many epochs and from pre-trained features. Measured after 270 steps on 4
# frames, by heart: with 0.1 no column is sure yet, F1 0; with 1 F1 1, and the curves are no worse.
LABEL_WEIGHT = 1.0
# Lanes are few among the columns; officially the weight of "no lane" against 1 for a lane.
NO_LANE_WEIGHT = 0.4
SAMPLES = 50  # along a curve; half the official 100, whose sums hardly differ
FIT_ROUNDS = 4  # of moving each point's parameter to where the curve passes it


def targets(model: LaneModel, lanes: np.ndarray) -> dict[str, np.ndarray]:
    """One cubic per lane and the columns that learn it.

    Returns:
        "label": float32 (Q,), 1 where the decoder should find a lane, 0 where not, NaN beside a
            lane, where either is right;
        "curves": float32 (Q, 4, 2) control points as shares of the frame, NaN where there is none.
    """
    decoder = model.decoder
    label = np.zeros(decoder.columns, np.float32)
    curves = np.full((decoder.columns, CONTROL_POINTS, 2), np.nan, np.float32)
    height, width = decoder.frame_hw
    present = [lane[np.isfinite(lane[:, 0])] for lane in lanes]
    fits = [fit_cubic(lane / (width, height)) for lane in present if len(lane) >= CONTROL_POINTS]
    for column, fit in zip(_columns(decoder, fits), fits, strict=True):
        # The neighbours learn the same curve: whichever of them wins, the lane is right.
        beside = slice(max(column - 1, 0), column + 2)
        label[beside], curves[beside] = np.nan, fit
        label[column] = 1
    return {"label": label, "curves": curves}


def loss(model: LaneModel, heads: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """L1 of sampled points, in shares of the frame, plus the columns' binary cross-entropy."""
    label, curves = targets["label"], targets["curves"]  # (N, Q), (N, Q, 4, 2)
    lane = label > 0  # False for NaN
    either = label.isnan()
    weight = torch.where(lane, 1.0, NO_LANE_WEIGHT).masked_fill(either, 0)
    labels = F.binary_cross_entropy_with_logits(heads["logits"], lane.float(), weight)

    taught = ~curves[:, :, 0, 0].isnan()
    apart = heads["curves"][taught] - curves[taught]  # (B, 4, 2); sampling is linear
    sampling = torch.from_numpy(_bernstein(np.linspace(0, 1, SAMPLES))).float()  # (SAMPLES, 4)
    distance = (sampling @ apart).abs().sum(dim=2)  # (B, SAMPLES)
    place = distance.sum() / max(distance.numel(), 1)
    return place + LABEL_WEIGHT * labels


def fit_cubic(points: np.ndarray) -> np.ndarray:
    """Control points (4, 2) of the cubic that runs from the first of the points (P, 2) to the last.

    Least squares with parameters by chord length, which are then moved along the curve a few times.
    """
    points = points.astype(np.float64)
    chords = np.linalg.norm(np.diff(points, axis=0), axis=1)
    t = np.concatenate([[0], np.cumsum(chords)]) / max(chords.sum(), 1e-9)
    first, last = points[0], points[-1]
    for round_ in range(FIT_ROUNDS + 1):
        basis = _bernstein(t)  # (P, 4)
        rest = points - basis[:, :1] * first - basis[:, 3:] * last
        inner = np.linalg.lstsq(basis[:, 1:3], rest, rcond=None)[0]
        control = np.stack([first, *inner, last])
        if round_ < FIT_ROUNDS:
            t = _nearest(control, points, t)
    return control.astype(np.float32)


def _nearest(control: np.ndarray, points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """One Gauss-Newton step of every parameter towards the curve's point nearest to each point."""
    off = _bernstein(t) @ control - points
    edges = 3 * np.diff(control, axis=0)  # control points of the derivative
    speed = (1, 2, 1) * t[:, None] ** np.arange(3) * (1 - t[:, None]) ** (2 - np.arange(3)) @ edges
    step = (off * speed).sum(axis=1) / np.maximum((speed**2).sum(axis=1), 1e-12)
    return np.clip(t - step, 0, 1)


def _columns(decoder: BezierCurve, fits: list[np.ndarray]) -> np.ndarray:
    """The column of every curve: at its mean x, yet far enough apart for the decoder to keep all.

    Curves come from left to right.
    """
    sampling = _bernstein(np.linspace(0, 1, SAMPLES)).mean(axis=0)
    means = np.array([sampling @ fit[:, 0] for fit in fits])
    columns = np.clip(np.floor(means * decoder.columns), 0, decoder.columns - 1).astype(np.int64)
    # A neighbour that learns the same curve may win, too; they must not meet in one neighbourhood.
    gap = decoder.window // 2 + 3
    order = np.argsort(means, kind="stable")
    for before, after in pairwise(order):
        columns[after] = max(columns[after], columns[before] + gap)
    limit = decoder.columns - 1
    for index in order[::-1]:
        columns[index] = min(columns[index], limit)
        limit = columns[index] - gap
    return columns


def _bernstein(t: np.ndarray) -> np.ndarray:
    """Weights (T, 4) of a cubic's control points at parameters (T,)."""
    k = np.arange(CONTROL_POINTS)
    return (1, 3, 3, 1) * t[:, None] ** k * (1 - t[:, None]) ** (3 - k)
