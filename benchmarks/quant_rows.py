"""From cells to rows: mean and spread over seeds, intervals over frames, differences to float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trt_lane.metrics.bootstrap import (
    accuracy_of_frames,
    drawn_frames,
    f1_of_frames,
    interval,
    recall_of_frames,
)

Statistic = Callable[[np.ndarray], np.ndarray]


def row(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one method on one model.

    The interval of the mean over seeds and that of its difference to float draw the same frames
    for both, so that a frame that is hard for both does not widen the difference.

    Args:
        cells: one per seed, scored on the same frames.
    """
    first = cells[0]
    metric, headline = _headline(first["results"]["metric"])
    found = _stacked(cells, "quantised", metric)  # (S, frames, 3)
    reference = _stacked(cells[:1], "float", metric)  # (1, frames, 3)
    per_seed = headline(found)
    float_value = float(headline(reference)[0])
    figures = {
        "method": first["method"],
        "bits": first["bits"],
        "simulated": first["simulated"],
        "metric": metric,
        "seeds": [c["seed"] for c in cells],
        "value": float(per_seed.mean()),
        "spread": float(per_seed.std(ddof=1)) if len(cells) > 1 else None,
        "per_seed": per_seed.tolist(),
        "float": float_value,
        "points_to_float": 100 * float(per_seed.mean() - float_value),
        **_intervals(found, reference, headline),
    }
    if metric == "F1":
        figures["recall"] = float(recall_of_frames(found).mean())
        figures["float_recall"] = float(recall_of_frames(reference)[0])
    agreement = np.array([c["results"]["forms"]["quantised"]["agreement"] for c in cells])
    distortion = [c["results"]["forms"]["quantised"]["distortion_px"] for c in cells]
    return figures | {
        "agreement_f1": float(f1_of_frames(agreement).mean()),
        "distortion_px": float(np.mean(distortion)),
        "scored_frames": first["results"]["frames"],
        "calibration_frames": first["calibration_frames"],
        "learning": first["learning"],
        "seconds": float(np.mean([c["seconds"] for c in cells])),
        "resumed": any(c["resumed"] for c in cells),
        "peak_memory_bytes": max(c["peak_memory_bytes"] for c in cells),
        "threads": sorted({c["threads"] for c in cells}),
        "load_average": max((c.get("load_average") or 0.0) for c in cells),
        "old_code": any(c.get("old_code", False) for c in cells),
        "warnings": sorted({w for c in cells for w in c["warnings"]}),
    }


def mean_points(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean difference to float in points over models, of the methods that ran on all of them."""
    models = {r["model"] for r in rows}
    by_method: dict[str, dict[str, float]] = {}
    for entry in rows:
        if "failed" not in entry:
            by_method.setdefault(entry["method"], {})[entry["model"]] = entry["points_to_float"]
    whole = {m: v for m, v in by_method.items() if v.keys() == models}
    means = {method: float(np.mean(list(values.values()))) for method, values in whole.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _headline(metric: str | None) -> tuple[str, Statistic]:
    """Name and function of the figure that ranks; without labels agreement with float."""
    if metric == "tusimple":
        return "accuracy", accuracy_of_frames
    return ("F1" if metric else "agreement F1"), f1_of_frames


def _stacked(cells: Sequence[dict[str, Any]], form: str, metric: str) -> np.ndarray:
    key = "agreement" if metric == "agreement F1" else "labelled"
    return np.array([c["results"]["forms"][form][key] for c in cells], np.float64)


def _intervals(found: np.ndarray, reference: np.ndarray, headline: Statistic) -> dict[str, Any]:
    chosen = drawn_frames(found.shape[1])  # (D, frames)
    values = np.mean([headline(seed[chosen]) for seed in found], axis=0)
    floats = headline(reference[0][chosen])
    return {
        "interval": list(interval(values)),
        "points_interval": [100 * v for v in interval(values - floats)],
    }
