"""Charts as inline SVG, 360 units wide, so that their words stay readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from benchmarks.latency import Latency, told_percentile

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 22, 34
MOST_POINTS = 1500  # of a timeline; more would be drawn on top of each other
_BINS = 60
_BAR, _MARK = "#3b6fd4", "#c92a2a"
_STARTS = ("#3b6fd4", "#e8890c")


def distribution(latency: Latency) -> str:
    """Histogram of the totals up to a little past p99, with p50 and p99 marked."""
    total = latency.of("total")
    p50, p99 = (float(np.percentile(total, q)) for q in (50, 99))
    low = float(total.min())
    high = max(p99 + 0.25 * (p99 - low), low * 1.01 + 1e-9)
    counts, edges = np.histogram(total, _BINS, (low, high))
    beyond = int(np.sum(total > high))
    most = max(int(counts.max()), 1)
    bars = []
    for count, start, end in zip(counts, edges, edges[1:], strict=False):
        if count:
            x, right = _x(start, low, high), _x(end, low, high)
            y = _y(count, 0, most)
            bars.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(right - x - 0.3, 0.7):.1f}" '
                f'height="{HEIGHT - BOTTOM - y:.1f}" fill="{_BAR}"/>'
            )
    marks = []
    told = told_percentile(total, 99)  # of a few frames it is no more than the slowest
    for value, word in ((p50, "p50"), *(() if told is None else ((p99, "p99"),))):
        x = _x(value, low, high)
        anchor = "end" if x > WIDTH * 0.7 else "start"
        shift = -3 if anchor == "end" else 3
        row = TOP - 10 if word == "p50" else TOP + 4
        marks.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}" '
            f'stroke="{_MARK}" stroke-dasharray="3 2"/>'
            + _text(x + shift, row + 4, f"{word} {number(value)} ms", anchor)
        )
    beyond_words = f" ({beyond} lie beyond)" if beyond else ""
    axes = _axes(low, high, 0, most, f"ms from frame to lanes{beyond_words}", "frames")
    return _svg("Distribution of the latency", axes + "".join(bars) + "".join(marks))


def timeline(latency: Latency) -> str:
    """Every frame in the order of running, the starts in two colours by turns."""
    total = latency.of("total")
    high = float(np.percentile(total, 99.5)) * 1.15
    low = min(float(total.min()) * 0.95, high)
    step = max(len(total) // MOST_POINTS, 1)
    dots, place = [], 0
    for turn, start in enumerate(latency.starts):
        points = []
        for value in start.ms[:, -1]:
            # Whatever is far off is always drawn, at the upper edge.
            if place % step == 0 or value > high:
                x = _x(place, 0, max(len(total) - 1, 1))
                points.append(f"M{x:.1f} {_y(min(value, high), low, high):.1f}h0")
            place += 1
        dots.append(
            f'<path d="{"".join(points)}" stroke="{_STARTS[turn % 2]}" stroke-width="2.2" '
            'stroke-linecap="round" fill="none"/>'
        )
    axes = _axes(
        0, len(total) - 1, low, high, "frame, in the order of running; colours: processes", "ms"
    )
    return _svg("Timeline of the latency", axes + "".join(dots))


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else "-"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{min(digits, 6)}f}"


def stacked(parts: Sequence[tuple[str, float, str]]) -> str:
    """A bar of parts (name, value, colour), each as wide as its share."""
    whole = sum(value for _, value, _ in parts) or 1.0
    pieces = "".join(
        f'<i style="width:{100 * value / whole:.2f}%;background:{colour}" '
        f'title="{escape(name)}"></i>'
        for name, value, colour in parts
    )
    return f'<div class="stack" role="img" aria-label="shares of the stages">{pieces}</div>'


def _svg(title: str, inner: str) -> str:
    name = f"<title>{escape(title)}</title>"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{name}{inner}</svg>'


def _axes(low: float, high: float, bottom: float, top: float, across: str, upwards: str) -> str:
    lines = []
    for value in _ticks(low, high):
        x = _x(value, low, high)
        lines.append(_text(x, HEIGHT - BOTTOM + 14, _plain(value), "middle"))
    for value in _ticks(bottom, top):
        y = _y(value, bottom, top)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                     'stroke="#e6eaf0"/>')  # fmt: skip
        lines.append(_text(LEFT - 5, y + 4, _plain(value), "end"))
    lines.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, across, "middle"))
    lines.append(_text(4, 12, upwards, "start"))
    return "".join(lines)


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers in the range."""
    if not high > low:
        return [low]
    raw = (high - low) / 4
    power = 10 ** np.floor(np.log10(raw))
    step = min((s * power for s in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    first = np.ceil(low / step) * step
    return [float(v) for v in np.arange(first, high + step * 1e-6, step)]


def _plain(value: float) -> str:
    return f"{value:.6g}"


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _x(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.0
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.0
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
