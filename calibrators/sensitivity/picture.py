"""The sensitivity report as one picture: heads, curves, layers and the worst frames."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from calibrators.sensitivity.measure import Sensitivity
from calibrators.sensitivity.report import explain
from calibrators.sensitivity.variants import FLOAT, FULL
from trt_lane.picture import draw_comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_LAYERS, SHOWN_FRAMES = 12, 4
ALONE, OWN, FRONT, BACK, REST = "#3b6fb6", "#9dbce3", "#d1495b", "#c9c9c9", "#444444"


def draw(found: Sensitivity) -> bytes:
    """A PNG; matplotlib is loaded here, as nothing else of the calibrators needs it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = _worst_frames(found)
    width = 16.0
    picture_height = width * 0.94 * sheet.shape[0] / sheet.shape[1]
    figure = Figure(figsize=(width, 8.6 + picture_height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, height_ratios=(3.6, 4.2, picture_height))
    _draw_heads(figure.add_subplot(grid[0, 0]), found)
    _draw_curves(figure.add_subplot(grid[0, 1]), found)
    _draw_noise(figure.add_subplot(grid[1, 0]), found)
    _draw_layers(figure.add_subplot(grid[1, 1]), found)
    frames = figure.add_subplot(grid[2, :])
    frames.imshow(sheet[..., ::-1], interpolation="antialiased")
    frames.set_axis_off()
    sentences = "\n".join(explain(found)[:2])
    figure.suptitle(
        f"{found.model.name} · {found.recipe} · {len(found.frames)} frames\n{sentences}",
        fontsize=11,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def _draw_heads(axes: Axes, found: Sensitivity) -> None:
    place = np.arange(len(found.heads))
    axes.bar(place - 0.2, [h.distortion_px for h in found.heads], 0.38, color=ALONE)
    axes.bar(place + 0.2, [h.own_distortion_px for h in found.heads], 0.38, color=OWN)
    axes.axhline(found.whole_px, color=REST, linestyle="--", linewidth=1)
    axes.set_xticks(place, [h.name for h in found.heads])
    axes.legend(["whole network in INT8", "this output in INT8", "only its own layers in INT8"])
    _finish(axes, "heads: how far each bends the lanes", "LDS, px")


def _draw_curves(axes: Axes, found: Sensitivity) -> None:
    for head in found.heads:
        axes.plot(head.curve.shares, head.curve.distortion_px, marker="o", label=head.name)
    axes.axvline(1, color=REST, linewidth=0.8, linestyle=":")
    axes.set_xlabel("share a of the head's quantisation error")
    axes.legend()
    _finish(axes, "S(a): lanes against a head's error", "LDS, px")


def _draw_noise(axes: Axes, found: Sensitivity) -> None:
    heads = [h for h in found.heads if h.noise is not None]
    for i, head in enumerate(heads):
        for shift, values, colour in (
            (-0.2, head.noise.foreground_px, FRONT),
            (0.2, head.noise.background_px, BACK),
        ):
            axes.bar(i + shift, np.mean(values), 0.38, color=colour)
            axes.plot([i + shift] * len(values), values, "k.", markersize=4)
    names = [f"{h.name}\n(noise = {h.noise.factor:g} × its error)" for h in heads]
    axes.set_xticks(np.arange(len(heads)), names)
    if heads:
        axes.legend(handles=axes.patches[:2], labels=["on lane places", "elsewhere"])
    else:
        axes.text(0.5, 0.5, "no head has a confidence with foreground", ha="center")
    _finish(axes, "inside a head: noise of equal energy, one dot per seed", "LDS, px")


def _draw_layers(axes: Axes, found: Sensitivity) -> None:
    parts = found.layers[:SHOWN_LAYERS][::-1]
    place = np.arange(len(parts))
    axes.barh(place, [p.distortion_px for p in parts], color=ALONE, label="this layer in INT8")
    rest = [np.nan if p.rest_distortion_px is None else p.rest_distortion_px for p in parts]
    axes.plot(rest, place, "|", color=REST, markersize=12, label="all but it in INT8")
    axes.set_yticks(place, [_short(p.name) for p in parts], fontsize=8)
    axes.set_xlabel("LDS, px")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    _finish(axes, f"worst layers, on {found.part_frames} frames", "")


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_ylabel(unit)
    axes.spines[["top", "right"]].set_visible(False)


def _worst_frames(found: Sensitivity) -> np.ndarray:
    """BGR tiles of the frames whose lanes moved most, float wide and INT8 thin."""
    distortions = found.outcome[FULL].comparison.distortions_px
    worst = [int(i) for i in np.argsort(distortions)[::-1][:SHOWN_FRAMES]]
    frames = found.frames
    return draw_comparison(
        [frames.dataset.frame(frames.indices[i]) for i in worst],
        [found.lanes[FLOAT][i] for i in worst],
        [found.lanes[FULL][i] for i in worst],
        [f"{frames.labels[i].name}   LDS {distortions[i]:.2f} px" for i in worst],
    )
