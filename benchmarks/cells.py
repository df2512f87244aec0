"""Cells of the quantisation table: what each is made of, and running one as a process of its own.

A cell that is done lies as JSON under the digest of recipe, seed, weights and data; it holds the
digest of the code that made it. A process of its own makes peak memory and crashes the cell's own.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.cell_specs import ModelSpec, RecipeSpec
from benchmarks.peers import Peer
from trt_lane.datasets import open_dataset
from trt_lane.errors import TrtLaneError
from trt_lane.files import check_writable, read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
# Whatever can change a cell's numbers.
CODE = ("calibrators/**/*.py", "trt_lane/**/*.py")
PEER_CODE = ("benchmarks/peers/*.py", "engines/*.py", "trt_lane/**/*.py")
REASON_CHARACTERS = 300
_KILL_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Conditions:
    """What all cells of a table share.

    Attributes:
        calibration_frames, score_frames: at most so many of each, spread evenly.
        threads: that a cell's process computes with.
        cache_gb: its memory for activations.
        work: folder for cells and their logs.
        any_code: keep cells that were made by other code.
    """

    calibration_frames: int
    score_frames: int
    threads: int
    cache_gb: float
    work: Path
    any_code: bool = False

    def __post_init__(self) -> None:
        for name in ("calibration_frames", "score_frames", "threads"):
            if getattr(self, name) < 1:
                raise TrtLaneError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not self.cache_gb > 0:
            raise TrtLaneError(f"cache_gb is {self.cache_gb}; expected above 0")


@dataclass(frozen=True)
class Cell:
    """One method on one model with one seed."""

    model: ModelSpec
    method: RecipeSpec | Peer
    seed: int = 0

    @property
    def method_name(self) -> str:
        """As it stands in the table."""
        return method_name(self.method)

    @property
    def label(self) -> str:
        """For messages."""
        seeded = isinstance(self.method, RecipeSpec) and self.method.unit is not None
        return f"{self.model.name} {self.method_name}" + (f" seed {self.seed}" if seeded else "")

    def identity(self, conditions: Conditions) -> str:
        """sha256 of all that decides the numbers besides code."""
        if isinstance(self.method, Peer):
            method: list[Any] = ["peer", self.method.name]
        else:
            recipe = hashlib.sha256(self.method.path.read_bytes()).hexdigest()
            method = ["recipe", self.method.name, recipe, self.method.factor, self.seed]
        parts = [
            *method,
            self.model.name,
            self.model.weights_digest,
            *(data_digest(s) for s in (self.model.data, self.model.calibration_data)),
            conditions.calibration_frames,
            conditions.score_frames,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def code(self) -> str:
        """sha256 of the sources that make it, as they are now."""
        return code_digest(PEER_CODE if isinstance(self.method, Peer) else CODE)


def method_name(method: RecipeSpec | Peer) -> str:
    """As it stands in the table: rows, and what is averaged over seeds, go by it."""
    if isinstance(method, Peer):
        return f"peer: {method.name}"
    return method.name + (f" (steps x {method.factor:g})" if method.factor != 1 else "")


def check_methods(methods: Sequence[RecipeSpec | Peer]) -> None:
    """A TrtLaneError where two methods would share a row, or two recipes a name."""
    names: set[str] = set()
    files: dict[str, Path] = {}
    for method in methods:
        name = method_name(method)
        path = method.path if isinstance(method, RecipeSpec) else None
        other = path and files.setdefault(method.name, path)
        if other != path:
            raise TrtLaneError(
                f"two recipes are called {method.name}: {other} and {path}; give one of the files "
                "another name"
            )
        if name in names:
            raise TrtLaneError(f"method {name} is named twice; name each once")
        names.add(name)


def finished(cell: Cell, conditions: Conditions) -> dict[str, Any] | None:
    """The kept result of a cell, or None when it has to be run."""
    held = kept(_path(cell, conditions, ".json"), "results")
    if held is None:
        return None
    current = held.get("code") == cell.code()
    return {**held, "old_code": not current} if current or conditions.any_code else None


def kept(path: Path, key: str) -> dict[str, Any] | None:
    """A JSON object with that key; None where there is none or it is damaged: it is made again."""
    if not path.is_file():
        return None
    try:
        held = read_json(path)
    except TrtLaneError:
        return None
    return held if isinstance(held, dict) and key in held else None


def run(cell: Cell, conditions: Conditions) -> dict[str, Any]:
    """Make a cell and keep it; where that fails, {"failed": reason}, which is not kept."""
    if isinstance(cell.method, Peer) and (reason := cell.method.missing()) is not None:
        return {"failed": reason}
    code = cell.code()
    # The code is in the name of what is half done: a run goes on only where it is the same.
    unfinished = _path(cell, conditions, f"-{code[:12]}.npz")
    scored = unfinished.with_suffix(".scored.json")
    log = _path(cell, conditions, ".log")
    check_writable(log)
    command = _command(cell, conditions, unfinished, scored)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with log.open("wb") as stream:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(conditions.threads),
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        try:
            status = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
    if status != 0:
        return {"failed": _reason(status, log)}
    held = {**read_json(scored), "code": code, "load_average": load}
    write_json(_path(cell, conditions, ".json"), held)
    for path in (scored, unfinished):
        path.unlink(missing_ok=True)
    return {**held, "old_code": False}


def _command(cell: Cell, conditions: Conditions, out: Path, scored: Path) -> list[str]:
    model = cell.model
    common = [
        *("--weights", str(model.weights.resolve())),
        *("--data", absolute_spec(model.calibration_data)),
        *("--frames", str(conditions.calibration_frames)),
        *("--score", absolute_spec(model.data)),
        *("--score-frames", str(conditions.score_frames)),
        *("--score-out", str(scored.resolve())),
    ]
    if isinstance(cell.method, Peer):
        peer = ["benchmarks.peers", model.name, "--peer", cell.method.name]
        return [sys.executable, "-m", *peer, *common]
    own = [
        *("--recipe", str(cell.method.path)),
        *("--seed", str(cell.seed)),
        *("--steps-factor", repr(cell.method.factor)),
        *("--cache-gb", repr(conditions.cache_gb)),
        *("--out", str(out.resolve())),
        "--reuse",
    ]
    return [sys.executable, "-m", "calibrators", model.name, *own, *common]


def _path(cell: Cell, conditions: Conditions, end: str) -> Path:
    return conditions.work / "cells" / f"{cell.identity(conditions)[:24]}{end}"


def _environment(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONUNBUFFERED": "1"}


def _die_with_parent() -> None:
    """A table that is killed must not leave a process that goes on computing the same cell."""
    ctypes.CDLL(None, use_errno=True).prctl(_KILL_WITH_PARENT, signal.SIGKILL)


def _reason(status: int, log: Path) -> str:
    """One line for the table: how it ended and the last that it said."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = lines[-1][:REASON_CHARACTERS] if lines else "it said nothing"
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}; last line: {said}"
    return said


def absolute_spec(spec: str) -> str:
    """A data set's spec with its path made absolute: cells run in the repository's root."""
    kind, colon, argument = spec.partition(":")
    if colon and kind != "synthetic":
        return f"{kind}:{Path(argument).expanduser().resolve()}"
    return spec if kind == "synthetic" else str(Path(spec).expanduser().resolve())


@cache
def data_digest(spec: str) -> str:
    """Digest of a data set's content."""
    return open_dataset(spec).digest()


def code_digest(patterns: Iterable[str]) -> str:
    """Digest of the sources that the patterns find in the repository."""
    sha = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            sha.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return sha.hexdigest()
