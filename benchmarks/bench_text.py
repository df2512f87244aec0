"""A benchmark's report for a terminal."""

from __future__ import annotations

from benchmarks.bench_report import BenchmarkReport


def text(report: BenchmarkReport) -> str:
    """At most 100 columns."""
    facts = report.environment.facts
    device = facts.get("gpu") or facts.get("board") or facts["cpu"]
    summary = report.latency.summary()
    lines = [
        f"{report.model} · {report.recipe or report.precision} · {report.target} on {device}, "
        f"{facts['threads']} of {facts['cores']} cores",
        f"{summary['frames']} frames in {summary['starts']} new processes, clock "
        f"{1e6 * summary['timer_ms']:.0f} ns a reading",
        "",
        f"{'ms':12}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>10}",
    ]
    for stage, row in summary["stages"].items():
        cells = [row["p50"], row["p90"], row["p99"], row["p99.9"], row["max"]]
        lines.append(f"{stage:12}" + "".join(_ms(value) for value in cells))
    for stage, row in summary["device"].items():
        lines.append(f"  on GPU {stage:9}{row['p50']:5.3f} ms, median by CUDA events")
    lines += ["", f"jitter {summary['jitter_ms']:.3f} ms between neighbouring frames"]
    for scenario in report.scenarios:
        lines.append(scenario_line(scenario))
    if (energy := report.energy_per_frame_j()) is not None:
        lines.append(f"energy {energy:.3g} J per frame, starts and warm-up in it")
    if report.accuracy is not None:
        lines += ["", *_accuracy(report)]
    lines += [f"! {warning}" for warning in report.warnings()]
    return "\n".join(lines)


def scenario_line(scenario: dict) -> str:
    """One scenario in words."""
    name = f"{scenario['scenario']:14}"
    if "late_share" in scenario:
        return (
            f"{name} {100 * scenario['late_share']:.1f} % of {scenario['frames']} frames late, "
            f"{_slowest(scenario)}"
        )
    if "frames_per_s" in scenario:
        return (
            f"{name} {scenario['frames_per_s']:.1f} frames/s with {scenario['workers']} detectors"
        )
    if "queries" in scenario:
        return f"{name} {_slowest(scenario)} for all: up to {scenario['hz']:.1f} Hz"
    return f"{name} p90 {scenario['p90_ms']:.2f} ms"


def _slowest(scenario: dict) -> str:
    name, ms = "p99", scenario.get("p99_ms")
    if ms is None:
        name, ms = "slowest", scenario.get("max_ms")
    return f"{name} {'-' if ms is None else f'{ms:.2f}'} ms"


def _accuracy(report: BenchmarkReport) -> list[str]:
    accuracy = report.accuracy
    lines = [f"{len(accuracy.frames)} frames of {accuracy.data}"]
    for figure, forms in accuracy.figures().items():
        cells = [f"{name} {value:.4f}" for name, value in forms.items()]
        lines.append(f"{figure:14} " + ", ".join(cells))
    return lines


def _ms(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:10.3f}"
