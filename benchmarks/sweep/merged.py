"""One report of all shards: a row per model, recipe and target, with intervals and categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy import Accuracy, Form
from benchmarks.cell_specs import short_spec
from benchmarks.sweep.plan import SweepCell
from benchmarks.sweep.tasks import facts
from trt_lane.metrics.bootstrap import accuracy_of_frames, drawn_in_parts, f1_of_frames, interval
from trt_lane.model import Metric

SCHEMA = 1


def merged(
    cells: Sequence[SweepCell],
    shards: Mapping[SweepCell, list[dict[str, Any]]],
    engines: Mapping[SweepCell, bytes],
    failed: Mapping[SweepCell, str],
) -> dict[str, Any]:
    """Rows in the order of the cells; seeds of one method are one row."""
    unlabelled = [c for c, found in shards.items() if not any(shard["names"] for shard in found)]
    failed = {**failed, **dict.fromkeys(unlabelled, "none of its frames has a label")}
    accuracies = {c: _joined(c, found) for c, found in shards.items() if c not in failed}
    groups: dict[tuple[str, str, str], list[SweepCell]] = {}
    for cell in cells:
        groups.setdefault((cell.model.name, cell.method, cell.target), []).append(cell)
    floats = {cell.model.name: cell for cell in cells if cell.recipe is None}
    rows = []
    for (model, method, target), members in groups.items():
        row: dict[str, Any] = {"model": model, "method": method, "target": target}
        row["data"] = short_spec(members[0].model.data)
        reasons = [failed[cell] for cell in members if cell in failed]
        good = [cell for cell in members if cell in accuracies]
        if good:
            reference = accuracies.get(floats[model])
            row |= _row([accuracies[c] for c in good], reference)
            row |= {"seeds": [c.seed for c in good], **facts(engines[good[0]])}
        if reasons:
            row |= {"failed": reasons[0], "failed_seeds": len(reasons)}
        rows.append(row)
    return {"schema": SCHEMA, "rows": rows}


def markdown(report: Mapping[str, Any]) -> str:
    """The rows as a table."""
    lines = [
        "| model | method | target | frames | F1 or accuracy | 95 % interval | points to float "
        "| 95 % interval | mF1 | INT8 | MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        method = row["method"]
        if "value" in row and "failed" in row:  # of the seeds that are left
            method += f" ({row['failed_seeds']} seeds failed: {row['failed']})"
        head = f"| {row['model']} | {method} | {row['target']} |"
        if "value" not in row:
            lines.append(f"{head} | failed: {row['failed']} | | | | | | |")
            continue
        points, bounds = "", ""
        if row.get("points_to_float") is not None:
            points = f"{row['points_to_float']:+.2f}"
            bounds = " … ".join(f"{v:+.2f}" for v in row["points_interval"])
        share = row["int8_share"]
        lines.append(
            f"{head} {row['frames']} | {row['value']:.4f} | "
            f"{' … '.join(f'{v:.4f}' for v in row['interval'])} | {points} | {bounds} | "
            f"{'' if row.get('mF1') is None else format(row['mF1'], '.4f')} | "
            f"{'' if share is None else f'{share:.1%}'} | {row['bytes'] / 1e6:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _joined(cell: SweepCell, found: list[dict[str, Any]]) -> Accuracy:
    """All shards of a cell as one accuracy, in the order of the data set."""
    metric = found[0]["metric"]
    names = tuple(name for shard in found for name in shard["names"])
    categories = tuple(name for shard in found for name in shard["categories"])
    rows = [row for shard in found for row in shard["rows"]]
    if metric == Metric.TUSIMPLE.value:
        form = Form(tusimple=np.array(rows, np.float64).reshape(-1, 3))
    else:
        form = Form(culane=np.array(rows, np.int64).reshape(len(rows), -1))
    return Accuracy(cell.model.data, "", metric, names, categories, {"engine": form})


def _row(seeds: Sequence[Accuracy], reference: Accuracy | None) -> dict[str, Any]:
    first = seeds[0]
    tusimple = first.metric == Metric.TUSIMPLE.value
    statistic = accuracy_of_frames if tusimple else f1_of_frames

    def frames_of(accuracy: Accuracy) -> np.ndarray:
        form = accuracy.forms["engine"]
        return form.tusimple if tusimple else form.counts(0.5)

    counts = [frames_of(accuracy) for accuracy in seeds]
    values = [float(statistic(rows)) for rows in counts]
    row: dict[str, Any] = {
        "frames": len(first.frames),
        "metric": "accuracy" if tusimple else "F1",
        "value": float(np.mean(values)),
        "per_seed": values,
        "categories": _categories(seeds),
    }
    if not tusimple:
        figures = [accuracy.figures() for accuracy in seeds]
        for name in ("F1 at .75", "mF1"):
            row[name] = float(np.mean([f[name]["engine"] for f in figures]))
    floats = None
    if reference is not None and reference.frames == first.frames:
        floats = frames_of(reference)
        row["points_to_float"] = 100 * (row["value"] - float(statistic(floats)))
    found, differences = [], []
    for chosen in drawn_in_parts(len(first.frames)):
        mean = np.mean([statistic(rows[chosen]) for rows in counts], axis=0)
        found.append(mean)
        if floats is not None:
            differences.append(100 * (mean - statistic(floats[chosen])))
    row["interval"] = list(interval(np.concatenate(found)))
    if differences:
        row["points_interval"] = list(interval(np.concatenate(differences)))
    return row


def _categories(seeds: Sequence[Accuracy]) -> dict[str, dict[str, Any]]:
    """As Accuracy.by_category has it, the mean over seeds as the row's value is."""
    found = [accuracy.by_category() for accuracy in seeds]
    return {
        name: {**entry, "engine": float(np.mean([of_seed[name]["engine"] for of_seed in found]))}
        for name, entry in found[0].items()
    }
