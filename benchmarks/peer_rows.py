"""From a run of peers to rows: milliseconds, our speed-up with its interval, F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy import figures_of
from benchmarks.peer_runtimes import OURS, PeerRun, ratio
from trt_lane.datasets.base import Label
from trt_lane.model import Metric

LOOPS = ", official-style post-processing"


def peer_rows(run: PeerRun, metric: Metric | None, labels: Sequence[Label]) -> list[dict[str, Any]]:
    """A row per network and post-processing, ours first; {"name", "missing"} for absent ones.

    `ratio` is how many times as long as ours, with our decoder, it takes.
    """
    ours = run.times[OURS].total(loops=False)
    reference = run.lanes.get("PyTorch eager") or run.lanes.get("ONNX Runtime float")
    rows = []
    for name, times in run.times.items():
        score = figures_of(metric, labels, run.lanes[name], reference)
        for loops in (False, True):
            if loops and times.loops is None:
                continue
            total = times.total(loops)
            value, low, high = ratio(ours, total)
            rows.append(
                {
                    "name": name + (LOOPS if loops else ""),
                    "p50_ms": float(np.median(total)),
                    "p99_ms": float(np.percentile(total, 99)) if total.size >= 500 else None,
                    "network_ms": float(np.median(times.network)),
                    "ratio": value,
                    "ratio_low": low,
                    "ratio_high": high,
                    "f1": score.get("F1", score.get("accuracy")),
                    "agreement_f1": score.get("agreement F1"),
                }
            )
    rows += [{"name": name, "missing": reason} for name, reason in run.missing.items()]
    return rows


def peer_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for a terminal."""
    width = max(len(row["name"]) for row in rows)
    head = f"{'frame to lanes':{width}}{'p50 ms':>9}{'network':>9}"
    lines = [f"{head}   our speed-up (95 %)    F1 or accuracy"]
    for row in rows:
        if "missing" in row:
            lines.append(f"{row['name']:{width}}   {row['missing']}")
            continue
        f1 = "" if row["f1"] is None else f"{row['f1']:.4f}"
        bounds = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        lines.append(
            f"{row['name']:{width}}{row['p50_ms']:9.2f}{row['network_ms']:9.2f}   {bounds:22} {f1}"
        )
    return "\n".join(lines)
