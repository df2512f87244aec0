"""The page: its head, its sections in order, and the summary that a manager reads."""

from __future__ import annotations

from html import escape
from pathlib import Path

from benchmarks.bench_report import BenchmarkReport
from benchmarks.html import sections
from benchmarks.html.charts import number

_STYLE = Path(__file__).with_name("style.css")


def page(report: BenchmarkReport) -> str:
    """The whole file as text."""
    title = f"{report.model} on {device(report)}"
    parts = [
        _summary(report, title),
        sections.latency(report),
        sections.stages(report),
        sections.scenarios(report),
        sections.accuracy(report),
        sections.peers(report),
        sections.layers(report),
        sections.worst_frames(report),
        sections.environment(report),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without an icon of its own a browser asks the server for one and logs an error.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def device(report: BenchmarkReport) -> str:
    """The device in a few words."""
    facts = report.environment.facts
    return str(facts.get("board") or facts.get("gpu") or facts.get("cpu") or "?")


def _summary(report: BenchmarkReport, title: str) -> str:
    summary = report.latency.summary()
    total = summary["stages"]["total"]
    p99 = total["p99"]
    cards = [
        ("from frame to lanes, median", f"{number(total['p50'])} ms"),
        ("frames per second, one after the other", number(1e3 / total["mean"])),
    ]
    if p99 is not None:
        cards.insert(1, ("99 of 100 frames within", f"{number(p99)} ms"))
    cards.append((f"frames over {1000 / 30:.1f} ms (30 Hz)", _late(summary)))
    cards += _accuracy_cards(report)
    if "float_onnx" in report.bytes and report.bytes.get("engine"):
        shrunk = report.bytes["float_onnx"] / report.bytes["engine"]
        cards.append(
            (
                f"engine file, {shrunk:.1f} x smaller than float",
                f"{report.bytes['engine'] / 1e6:.1f} MB",
            )
        )
    if (energy := report.energy_per_frame_j()) is not None:
        cards.append(("energy per frame, starts and warm-up in it", f"{number(energy)} J"))
    boxes = "".join(
        f'<div class="card"><b>{escape(value)}</b>{escape(words)}</div>' for words, value in cards
    )
    warnings = "".join(f'<p class="warn">{escape(w)}</p>' for w in report.warnings())
    facts = report.environment.facts
    line = (
        f"{report.precision}, {report.recipe or 'no recipe'}, target {report.target}, "
        f"{report.runtime}, {facts.get('threads')} of {facts.get('cores')} cores, {report.made}"
    )
    return (
        f'<header><h1>{escape(title)}</h1><p class="dim">{escape(line)}</p>'
        f'<div class="cards">{boxes}</div>{warnings}</header>'
    )


def _late(summary: dict) -> str:
    return f"{100 * summary['deadline_misses']['30']:.1f} %"


def _accuracy_cards(report: BenchmarkReport) -> list[tuple[str, str]]:
    if report.accuracy is None:
        return []
    cards = []
    for figure, forms in report.accuracy.figures().items():
        if figure not in ("F1", "accuracy", "agreement F1", "LDS px"):
            continue
        words = figure
        if figure in ("F1", "accuracy") and "float" in forms:
            points = 100 * (forms["engine"] - forms["float"])
            words += f", {points:+.2f} points to float"
        elif figure == "agreement F1":
            words = "of lanes agree with float (F1)"
        elif figure == "LDS px":
            words = "px lane distortion (LDS)"
        digits = 4 if figure in ("F1", "accuracy", "agreement F1") else 2
        cards.append((words, f"{forms['engine']:.{digits}f}"))
    return cards
