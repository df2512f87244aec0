"""The sweep itself: what is not kept yet is run, and every result is kept as it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import kept
from benchmarks.sweep.merged import merged
from benchmarks.sweep.plan import Shard, SweepCell, engine_path, shard_path
from benchmarks.sweep.pools import Failure, Pool
from benchmarks.sweep.tasks import make_engine, score_shard
from trt_lane.files import write_bytes, write_json

Say = Callable[[str], None]


def sweep(
    cells: Sequence[SweepCell],
    shards: dict[str, list[Shard]],
    pool: Pool,
    work: Path,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Make all engines, score all shards, merge.

    Args:
        cells: what to make.
        shards: of every model's data set, by the model's name.
        pool: where to run.
        work: folder of engines and shards; what lies there is not made again.
        say: takes a line for people.

    Returns:
        The merged report; it depends on nothing but the cells, the frames and the code.
    """
    failed: dict[SweepCell, str] = {}
    todo = [cell for cell in cells if not engine_path(cell, work).is_file()]
    if len(todo) < len(cells):
        say(f"{len(cells) - len(todo)} of {len(cells)} engines are there already")
    for done, (index, value) in enumerate(pool.run(make_engine, [(c.commands(),) for c in todo])):
        cell = todo[index]
        if isinstance(value, Failure):
            failed[cell] = value.reason
        else:
            write_bytes(engine_path(cell, work), value)
        outcome = f"failed: {failed[cell]}" if cell in failed else "made"
        say(f"[{done + 1}/{len(todo)}] {cell.label} {outcome}")
    whole = [cell for cell in cells if cell not in failed]
    _score(whole, shards, pool, work, failed, say)
    found = {
        cell: [kept(shard_path(cell, shard, work), "rows") for shard in shards[cell.model.name]]
        for cell in cells
        if cell not in failed
    }
    engines = {cell: engine_path(cell, work).read_bytes() for cell in found}
    return merged(cells, found, engines, failed)


def _score(
    cells: Sequence[SweepCell],
    shards: dict[str, list[Shard]],
    pool: Pool,
    work: Path,
    failed: dict[SweepCell, str],
    say: Say,
) -> None:
    wanted = [(cell, shard) for cell in cells for shard in shards[cell.model.name]]
    todo = [(c, s) for c, s in wanted if kept(shard_path(c, s, work), "rows") is None]
    if len(todo) < len(wanted):
        say(f"{len(wanted) - len(todo)} of {len(wanted)} shards are there already")
    packed = {cell: engine_path(cell, work).read_bytes() for cell in {c for c, _ in todo}}
    calls = [(packed[c], s.data, s.start, s.stop) for c, s in todo]
    for done, (index, value) in enumerate(pool.run(score_shard, calls)):
        cell, shard = todo[index]
        if isinstance(value, Failure):
            failed[cell] = value.reason
        else:
            write_json(shard_path(cell, shard, work), value)
        outcome = f"failed: {failed[cell]}" if isinstance(value, Failure) else "scored"
        say(f"[{done + 1}/{len(todo)}] {cell.label} frames {shard.start}-{shard.stop} {outcome}")
