"""What more optimiser steps buy: the score of methods over their steps, as JSON and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cell_specs import ModelSpec, RecipeSpec
from benchmarks.cells import Conditions
from benchmarks.quant_table import Say, quant_table
from trt_lane.files import atomic_write, write_json


def steps_curve(
    model: ModelSpec,
    points: Sequence[RecipeSpec],
    seeds: Sequence[int],
    conditions: Conditions,
    out: Path,
    say: Say,
) -> dict[str, Any]:
    """Run all points and draw the scores, a curve per recipe.

    Args:
        model: with weights and data.
        points: recipes that learn, each several times with other factors on its steps.
        seeds: for every point.
        conditions: shared with the quantisation table, so that cells are shared too.
        out: without suffix: out.json, out.md and out.svg are written.
        say: takes a line for people.
    """
    table = quant_table([model], points, seeds, conditions, out, say)
    curves: dict[str, list[dict[str, Any]]] = {recipe.name: [] for recipe in points}
    for method, row in zip(points, table["rows"], strict=True):
        point: dict[str, Any] = {"factor": method.factor}
        if "failed" in row:
            point["failed"] = row["failed"]
        else:
            point |= {k: row[k] for k in ("value", "interval", "seconds", "learning", "float")}
            point["steps"] = row["learning"]["steps"] + row["learning"]["steps_after"]
        curves[method.name].append(point)
    result = {**table, "curves": curves}
    write_json(out.with_name(f"{out.name}.json"), result)
    drawn = [r for r in table["rows"] if "failed" not in r]
    if drawn:
        _draw(curves, model.name, drawn[0], out.with_name(f"{out.name}.svg"))
    return result


def _draw(
    curves: dict[str, list[dict[str, Any]]], model: str, first: dict[str, Any], path: Path
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    for axis, key, title in (
        (by_steps, "steps", "steps per unit"),
        (by_time, "seconds", "seconds of quantising"),
    ):
        for name, points in curves.items():
            good = sorted((p for p in points if "failed" not in p), key=lambda p: p[key])
            values = [p["value"] for p in good]
            low = [p["value"] - p["interval"][0] for p in good]
            high = [p["interval"][1] - p["value"] for p in good]
            places = [p[key] for p in good]
            # A resampled mean can lie a hair beside the point itself.
            errors = [[max(v, 0.0) for v in side] for side in (low, high)]
            axis.errorbar(places, values, errors, marker="o", capsize=2, label=name)
        axis.axhline(first["float"], color="0.5", linestyle="--", label="float")
        axis.set(xscale="log", xlabel=title)
        axis.grid(alpha=0.3)
    by_steps.set_ylabel(first["metric"])
    by_time.legend()
    figure.suptitle(model)
    with atomic_write(path) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
