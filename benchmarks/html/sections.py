"""The sections below the summary; one that has nothing to show is empty text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from benchmarks.bench_report import BenchmarkReport
from benchmarks.bench_text import scenario_line
from benchmarks.html.charts import distribution, number, stacked, timeline
from benchmarks.html.elements import bar, dim, section, table
from trt_lane.device.state import DeviceState

COLOURS = ("#3b6fd4", "#2f9e44", "#e8890c", "#8e44ad", "#c92a2a", "#11808f", "#6b7280")
# Open in the page; the rest of a long table is behind a click.
ROWS_SHOWN = 20


def latency(report: BenchmarkReport) -> str:
    """Distribution, timeline and percentiles."""
    summary = report.latency.summary()
    names = ("p50", "p90", "p99", "p99.9", "max")
    rows = [
        [stage, *("-" if row[n] is None else number(row[n]) for n in names)]
        for stage, row in summary["stages"].items()
    ]
    misses = ", ".join(
        f"{100 * share:.1f} % at {hz} Hz" for hz, share in summary["deadline_misses"].items()
    )
    note = (
        f"{summary['frames']} frames in {summary['starts']} new processes; a percentile that fewer "
        f"than 5 frames lie beyond is left out. Jitter {number(summary['jitter_ms'])} ms between "
        f"neighbouring frames. Frames longer than a camera's interval: {misses}. One reading of "
        f"the clock costs {1e6 * summary['timer_ms']:.0f} ns."
    )
    charts = f'<div class="charts">{distribution(report.latency)}{timeline(report.latency)}</div>'
    return section("Latency", charts + table(["ms", *names], rows) + dim(note))


def stages(report: BenchmarkReport) -> str:
    """Where the time goes."""
    summary = report.latency.summary()
    medians = {stage: summary["stages"][stage]["p50"] for stage in report.latency.stages[:-1]}
    if summary["device"]:
        call = medians.pop("network")
        on_gpu = {stage: row["p50"] for stage, row in summary["device"].items()}
        after = {"launch and wait": max(call - sum(on_gpu.values()), 0.0)}
        decode = {"decode": medians.pop("decode")}
        medians |= {**on_gpu, **after, **decode}
    parts = [
        (stage, max(value, 0.0), COLOURS[i % len(COLOURS)])
        for i, (stage, value) in enumerate(medians.items())
    ]
    whole = sum(value for _, value, _ in parts) or 1.0
    key = "".join(
        f'<li><i style="background:{colour}"></i>{escape(name)} {number(value)} ms, '
        f"{100 * value / whole:.0f} %</li>"
        for name, value, colour in parts
    )
    return section("Stages", f'{stacked(parts)}<ul class="key">{key}</ul>')


def scenarios(report: BenchmarkReport) -> str:
    """MLPerf's scenarios in words."""
    rows = []
    for scenario in report.scenarios:
        line = scenario_line(scenario)
        rows.append([scenario["scenario"], line[len(scenario["scenario"]) :].strip()])
    return section("Scenarios", table(["scenario", "result"], rows, words=(1,))) if rows else ""


def accuracy(report: BenchmarkReport) -> str:
    """Figures of engine and float, and F1 per category as bars."""
    found = report.accuracy
    if found is None:
        return ""
    forms = sorted(found.forms, key=lambda name: name != "float")
    title = {"float": "float", "engine": f"engine ({report.precision})"}
    rows = [
        [figure, *(f"{values[f]:.4f}" if f in values else "-" for f in forms)]
        for figure, values in found.figures().items()
    ]
    figures = table(["", *(title[f] for f in forms)], rows)
    note = dim(f"{len(found.frames)} frames of {found.data}")
    return section("Accuracy", figures + note + _categories(report, forms))


def peers(report: BenchmarkReport) -> str:
    """What else could run the model, on the same frames in the same run."""
    if not report.peers:
        return ""
    rows = [
        [
            peer["name"],
            number(peer["p50_ms"]) if "p50_ms" in peer else "-",
            number(peer["p99_ms"]) if peer.get("p99_ms") is not None else "-",
            f"{peer['ratio']:.2f} x" if "ratio" in peer else "-",
            f"{peer['f1']:.4f}" if peer.get("f1") is not None else "-",
            peer.get("missing", ""),
        ]
        for peer in report.peers
    ]
    head = ["frame to lanes", "p50 ms", "p99 ms", "our speed-up", "F1 or accuracy", ""]
    return section("What else could run it", table(head, rows, words=(5,)))


def layers(report: BenchmarkReport) -> str:
    """Precision, time and work of every layer that multiplies, heaviest first."""
    found = [r for r in report.layers if r["macs"] or r["activation_macs"]]
    if not found:
        return ""
    timed = any(r.get("ms") is not None for r in found)

    def weight(record: dict[str, Any]) -> float:
        return (record.get("ms") or 0.0) if timed else record["macs"] + record["activation_macs"]

    found.sort(key=lambda r: -weight(r))
    whole = sum(map(weight, found)) or 1.0
    rows = [_layer(record, weight(record) / whole) for record in found]
    head = ["layer", "precision", "ms", "share", "MMACs", "kind", "why not INT8"]
    shown = table(head, rows[:ROWS_SHOWN], words=(6,), raw=(1, 3), kind="wide")
    if len(rows) > ROWS_SHOWN:
        rest = table(head, rows[ROWS_SHOWN:], words=(6,), raw=(1, 3), kind="wide")
        shown += (
            f"<details><summary>{len(rows) - ROWS_SHOWN} smaller layers</summary>{rest}</details>"
        )
    int8 = sum(r["macs"] for r in found if set(r["inputs"]) == {"INT8"})
    weighted = sum(r["macs"] for r in found) or 1
    told = f"{100 * int8 / weighted:.1f} % of the weighted layers' MACs run in INT8."
    if timed:
        rest = sum(r.get("ms") or 0.0 for r in report.layers) - whole
        told += f" Times are the runtime's profile; all other layers take {number(rest)} ms."
    note = dim(told)
    return section("Layers", note + shown)


def worst_frames(report: BenchmarkReport) -> str:
    """The frames where the engine bends lanes most."""
    if not report.pictures:
        return ""
    figures = "".join(
        f'<figure><img src="data:image/jpeg;base64,{escape(p["jpeg"])}" '
        f'alt="{escape(p["caption"])}" loading="lazy"><figcaption>{escape(p["caption"])}'
        "</figcaption></figure>"
        for p in report.pictures
    )
    key = (
        '<ul class="key"><li><i style="background:#3ce678"></i>float (wide)</li>'
        '<li><i style="background:#ff3c28"></i>engine (narrow)</li></ul>'
    )
    return section("Worst frames", f'{key}<div class="frames">{figures}</div>')


def environment(report: BenchmarkReport) -> str:
    """What was measured on, and what it was like before, during and after."""
    found = report.environment
    rows = [[name.replace("_", " "), str(value)] for name, value in found.facts.items()]
    rows += [[name, version] for name, version in found.versions.items()]
    rows += [["code", found.git or "no repository"]]
    rows += [[f"sha256 of {name}", digest] for name, digest in report.digests.items()]
    rows += [
        [name.replace("_", " "), str(value)]
        for name, value in report.conditions.items()
        if name not in found.facts
    ]
    if found.other_cores is not None:
        rows += [["cores busy with other programs", f"{found.other_cores:.2f}"]]
    facts = table(["fact", "value"], rows, words=(1,))
    head = ["when", "s", "MHz", "°C", "W", "load", "throttled, events"]
    states = found.states
    shown = table(head, _states((states[0], states[-1]) if len(states) > 2 else states))
    if len(states) > 2:
        every = table(head, _states(states))
        shown += f"<details><summary>all {len(states)} readings</summary>{every}</details>"
    return section("Environment", facts + shown)


def _states(states: Sequence[DeviceState]) -> list[list[str]]:
    """A row each; events are counted from the row above."""
    return [_state(*pair) for pair in zip(states, (None, *states), strict=False)]


def _state(state: DeviceState, before: DeviceState | None) -> list[str]:
    return [
        state.when,
        f"{state.at_s:.0f}",
        _pairs(state.clocks_mhz, 0),
        _pairs(state.temperatures_c, 1),
        "-" if state.power_w is None else number(state.power_w),
        "-" if state.load_average is None else f"{state.load_average:.2f}",
        _throttled(state, before),
    ]


def _throttled(state: DeviceState, before: DeviceState | None) -> str:
    """Reasons and events since the row above; "–" where nothing on the device could tell."""
    rises = state.events_since(before) if before else {}
    words = [*(state.throttle or ()), *(f"{kind} +{rise}" for kind, rise in rises.items())]
    counted = before is not None and before.throttle_counts.keys() & state.throttle_counts.keys()
    nothing = "no" if counted or state.throttle is not None else "–"
    return ", ".join(words) or nothing


def _categories(report: BenchmarkReport, forms: Sequence[str]) -> str:
    tables = []
    for iou in (0.5, 0.75):
        found = report.accuracy.by_category(iou)
        if not found:
            return ""
        rows = []
        for category, entry in found.items():
            row = [category, str(entry["frames"])]
            for form in forms:
                value = entry[form]
                track = bar(value, "float" if form == "float" else "int8")
                # Crossroads have no lanes: whatever is found there is made up.
                row.append(f"{value} made up" if isinstance(value, int) else f"{value:.4f}{track}")
            rows.append(row)
        raw = tuple(range(2, 2 + len(forms)))
        caption = f"F1 at IoU {iou:g} per category"
        tables.append(table(["category", "frames", *forms], rows, raw=raw, caption=caption))
    return "".join(tables)


def _layer(record: dict[str, Any], share: float) -> list[str]:
    work = record["macs"] + record["activation_macs"]
    precision = "+".join(sorted(set(record["inputs"]))) or "?"
    kind = "int8" if precision == "INT8" else ""
    # A builder's name for a fused layer may hold all of its parts; the ONNX node says as much.
    name = (record["onnx_nodes"] or [record["name"]])[0]
    reason = record["reason"] or ("attention" if record["activation_macs"] else "")
    return [
        name,
        f'<span class="chip {kind}">{escape(precision)}</span>',
        "-" if record.get("ms") is None else f"{record['ms']:.3f}",
        bar(share, ""),
        f"{work / 1e6:.2f}",
        record["kind"],
        reason,
    ]


def _pairs(values: dict[str, float], digits: int) -> str:
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items()) or "-"
