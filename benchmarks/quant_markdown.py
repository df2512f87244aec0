"""The quantisation table for people: Markdown with its conditions above and its notes below."""

from __future__ import annotations

from typing import Any

TITLES = (
    *("method", "bits", "{metric}", "± seeds", "95 % interval", "points to float"),
    *("95 % interval", "agreement F1", "LDS px", "learned", "seconds", "peak MB"),
)


def markdown(table: dict[str, Any]) -> str:
    """The whole document."""
    machine = table["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Quantisation methods side by side",
        "",
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, "
        f"Python {machine['python']}, {versions}.",
        f"At most {table['calibration_frames']} unlabelled calibration frames for every method.",
        "",
    ]
    for name in table["models"]:
        lines += _model(name, table)
    if table["mean_points"]:
        lines += ["## Mean over models", "", "| method | points to float |", "|---|---|"]
        lines += [f"| {m} | {points:+.2f} |" for m, points in table["mean_points"].items()]
        lines.append("")
    return "\n".join([*lines, *_notes(table["rows"], machine["threads"])]) + "\n"


def _model(name: str, table: dict[str, Any]) -> list[str]:
    facts = table["models"][name]
    rows = [r for r in table["rows"] if r["model"] == name]
    good = [r for r in rows if "failed" not in r]
    lines = [f"## {name}", ""]
    weights = f"{facts['weights']} (sha256 {facts['weights_sha256'][:12]})"
    if not good:
        lines += [f"Weights {weights}.", ""]
        return lines + [f"- {r['method']}: failed: {r['failed']}" for r in rows] + [""]
    first = good[0]
    recall = f", recall {first['float_recall']:.4f}" if "float_recall" in first else ""
    same = facts["data"] == facts["calibration_data"]
    calibrated = "the same frames without labels" if same else facts["calibration_data"]
    load = max(r["load_average"] for r in good)
    lines += [
        f"Weights {weights}; {first['scored_frames']} frames of {facts['data']}, calibrated on "
        f"{calibrated}. Float: {first['metric']} {first['float']:.4f}{recall}. "
        f"Processes that waited or ran just before a cell: up to {load:.1f}.",
        "",
    ]
    titles = [t.format(metric=first["metric"]) for t in TITLES]
    if recall:
        titles.insert(3, "recall")
    lines += [_line(titles), "|" + "---|" * len(titles)]
    threads = table["machine"]["threads"]
    lines += [_line(_cells(r, len(titles), bool(recall), threads)) for r in rows]
    return [*lines, ""]


def _cells(row: dict[str, Any], width: int, with_recall: bool, threads: int) -> list[str]:
    if "failed" in row:
        return [
            row["method"],
            "",
            f"failed: {row['failed']}".replace("|", "/"),
            *[""] * (width - 3),
        ]
    weights, activations = row["bits"]
    low, high = row["interval"]
    points_low, points_high = row["points_interval"]
    missing = f" ({row['missing_seeds']} of the seeds failed)" if "missing_seeds" in row else ""
    cells = [
        row["method"] + (" †" if row["old_code"] else "") + missing,
        f"W{weights}A{activations}" + (" simulated" if row["simulated"] else ""),
        f"{row['value']:.4f}",
        "" if row["spread"] is None else f"{row['spread']:.4f} ({len(row['seeds'])})",
        f"{low:.4f} … {high:.4f}",
        f"{row['points_to_float']:+.2f}",
        f"{points_low:+.2f} … {points_high:+.2f}",
        f"{row['agreement_f1']:.4f}",
        f"{row['distortion_px']:.3f}",
        _learned(row["learning"]),
        f"{row['seconds']:.0f}"
        + (" ‡" if row["resumed"] else "")
        + (" §" if _other_threads(row, threads) else ""),
        f"{row['peak_memory_bytes'] / 1e6:.0f}",
    ]
    if with_recall:
        cells.insert(3, f"{row['recall']:.4f}")
    return cells


def _learned(learning: dict[str, Any] | None) -> str:
    if learning is None:
        return ""
    after = f"+{learning['steps_after']}" if learning["steps_after"] else ""
    if learning.get("block_steps"):  # tables from before blocks could come first lack it
        after += f" (and {learning['block_steps']} a block before)"
    return f"{learning['units']} x {learning['steps']}{after} steps x {learning['batch']}"


def _other_threads(row: dict[str, Any], threads: int) -> list[int]:
    """Numbers of threads of its cells that are not the heading's."""
    held = row["threads"]
    # Tables from before cells of a row could differ hold one number.
    return sorted({*(held if isinstance(held, list) else [held])} - {threads})


def _notes(rows: list[dict[str, Any]], threads: int) -> list[str]:
    good = [r for r in rows if "failed" not in r]
    notes = [
        "Intervals: 1000 draws of the frames with replacement, central 95 %; those of the points "
        "to float draw the same frames for both. ± seeds: standard deviation (number of seeds); "
        "empty where nothing is drawn. Agreement F1 and LDS are against the float network's lanes. "
        "Seconds and peak memory are of the quantisation, in a process of its own."
    ]
    if any(r["learning"] for r in good):
        notes.append(
            "Learned: units x steps x frames per step. “(steps x f)”: the recipe's number of "
            "steps, as published for the layer-wise and block-wise methods, times f with learning "
            "rates / sqrt(f) up to 0.01; where nothing is said the recipe's own. Published step "
            "counts were run on 1024 images; here every method has the frames named at the top."
        )
    if any(r["simulated"] for r in good):
        notes.append("Simulated: TensorRT runs INT8 only; fewer bits are computed in float here.")
    if any(r["old_code"] for r in good):
        notes.append("†: measured with an earlier state of the code.")
    if any(r["resumed"] for r in good):
        notes.append("‡: was cut off and went on; the time is that of all runs together.")
    others = {(r["model"], r["method"]): _other_threads(r, threads) for r in good}
    if any(others.values()):
        where = "; ".join(
            f"{method} on {model} with {', '.join(map(str, counts))}"
            for (model, method), counts in others.items()
            if counts
        )
        notes.append(
            f"§: seconds of a process with another number of threads than the heading's {threads}, "
            f"kept from an earlier table: {where}."
        )
    warnings = [(r["model"], r["method"], w) for r in good for w in r["warnings"]]
    notes += [f"Warning of {method} on {model}: {text}." for model, method, text in warnings]
    return [line for note in notes for line in (note, "")][:-1]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
