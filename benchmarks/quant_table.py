"""The quantisation table: every method on every model, as JSON and as Markdown, cell by cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cell_specs import ModelSpec, RecipeSpec, short_spec
from benchmarks.cells import Cell, Conditions, check_methods, finished, run
from benchmarks.machine import machine
from benchmarks.peers import Peer
from benchmarks.quant_markdown import markdown
from benchmarks.quant_rows import mean_points, row
from trt_lane.files import check_writable, write_bytes, write_json

SCHEMA = 1
Say = Callable[[str], None]


def quant_table(
    models: Sequence[ModelSpec],
    methods: Sequence[RecipeSpec | Peer],
    seeds: Sequence[int],
    conditions: Conditions,
    out: Path,
    say: Say,
) -> dict[str, Any]:
    """Run what is not there yet; the table is written anew after every cell.

    Args:
        models: the columns' subjects.
        methods: recipes and peers.
        seeds: for methods that learn; others are deterministic and run once.
        conditions: shared by all cells.
        out: the table without suffix: out.json and out.md are written.
        say: takes a line for people.

    Raises:
        TrtLaneError: two methods have one name; before anything runs.
    """
    check_writable(out.with_name(f"{out.name}.json"))  # before hours of work
    check_methods(methods)
    cells = [
        Cell(model, method, seed)
        for model in models
        for method in methods
        for seed in (seeds if isinstance(method, RecipeSpec) and method.unit else [0])
    ]
    results: dict[Cell, dict[str, Any]] = {}
    taken: dict[Cell, float] = {}
    for cell in cells:
        held = finished(cell, conditions)
        if held is not None:
            results[cell] = held
    if results:
        say(f"{len(results)} of {len(cells)} cells are done already")
    todo = [cell for cell in cells if cell not in results]
    for number, cell in enumerate(todo):
        say(f"[{number + 1}/{len(todo)}] {cell.label} …{_left(todo[number:], taken)}")
        start = time.monotonic()
        results[cell] = run(cell, conditions)
        taken[cell] = time.monotonic() - start
        say(f"    {_outcome(cell, results[cell])}, {taken[cell]:.0f} s")
        write(report(cells, results, conditions), out)
    final = report(cells, results, conditions)
    write(final, out)
    return final


def report(
    cells: Sequence[Cell], results: dict[Cell, dict[str, Any]], conditions: Conditions
) -> dict[str, Any]:
    """All rows with the conditions they were measured under."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model.name, cell.method_name), []).append(cell)
    rows = [
        {"model": model, **_row(name, members, results)}
        for (model, name), members in groups.items()
    ]
    subjects = {c.model.name: c.model for c in cells}
    return {
        "schema": SCHEMA,
        "machine": machine(conditions.threads),
        "calibration_frames": conditions.calibration_frames,
        "score_frames": conditions.score_frames,
        "models": {
            name: {
                "weights": spec.weights.name,
                "weights_sha256": spec.weights_digest,
                "data": short_spec(spec.data),
                "calibration_data": short_spec(spec.calibration_data),
            }
            for name, spec in subjects.items()
        },
        "rows": rows,
        "mean_points": mean_points(rows) if len(subjects) > 1 else {},
    }


def write(table: dict[str, Any], out: Path) -> None:
    """Write out.json and out.md."""
    write_json(out.with_name(f"{out.name}.json"), table)
    write_bytes(out.with_name(f"{out.name}.md"), markdown(table).encode())


def _row(name: str, members: list[Cell], results: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
    done = [results[c] for c in members if c in results]
    good = [r for r in done if "failed" not in r]
    failures = [r["failed"] for r in done if "failed" in r]
    if good:
        missing = len(members) - len(good)
        figures = {**row(good), "method": name}
        return figures | ({"missing_seeds": missing, "failures": failures} if missing else {})
    return {"method": name, "failed": failures[0] if failures else "not run yet"}


def _left(todo: Sequence[Cell], taken: dict[Cell, float]) -> str:
    """Time left, each cell taken to last as the likest one that was run; "" before the first."""
    if not taken:
        return ""

    def expected(cell: Cell) -> float:
        for alike in (
            lambda c: c.model == cell.model and c.method == cell.method,
            lambda c: c.method == cell.method,
            lambda c: True,
        ):
            times = [s for c, s in taken.items() if alike(c)]
            if times:
                return sum(times) / len(times)
        return 0.0

    minutes = sum(map(expected, todo)) / 60
    return f" about {minutes:.0f} min left" if minutes >= 1 else " less than a minute left"


def _outcome(cell: Cell, result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    figures = row([result])
    return f"{figures['metric']} {figures['value']:.4f} (float {figures['float']:.4f})"
