"""The picture of a training: loss and validation F1 over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from trt_lane.files import atomic_write

SMOOTHED = 200  # points that the drawn loss has at most


def draw_curve(
    path: Path, title: str, losses: Sequence[float], validations: Sequence[tuple[int, float]]
) -> None:
    """Write a PNG.

    Args:
        path: the picture.
        title: above it.
        losses: of every step.
        validations: (step, F1), any number.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    loss_axis = figure.subplots()
    window = max(1, len(losses) // SMOOTHED)
    whole = len(losses) // window * window
    means = np.reshape(losses[:whole], (-1, window)).mean(axis=1)
    steps = (np.arange(len(means)) + 1) * window
    loss_axis.plot(steps, means, color="tab:blue", linewidth=1)
    loss_axis.set(xlabel="step", title=title)
    loss_axis.set_ylabel("training loss", color="tab:blue")
    f1_axis = loss_axis.twinx()
    f1_axis.plot(*zip(*validations, strict=True), "o-", color="tab:red") if validations else None
    f1_axis.set_ylabel("validation F1", color="tab:red")
    f1_axis.set_ylim(0, 1)
    f1_axis.grid(alpha=0.3)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
