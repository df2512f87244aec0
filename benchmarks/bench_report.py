"""BenchmarkReport: everything one benchmark found, as report.json of a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.accuracy import Accuracy
from benchmarks.environment import Environment
from benchmarks.latency import Latency
from benchmarks.report_shape import check
from benchmarks.timeline import findings
from trt_lane.errors import TrtLaneError
from trt_lane.files import read_json, write_bytes

SCHEMA = 1
KIND = "trt_lane benchmark"


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """One engine on one device.

    Attributes:
        model, recipe, target, precision, runtime: what was measured.
        made: UTC, as 2026-01-31T12:00:00Z.
        digests: of the engine and what it came from.
        bytes: file sizes: "engine" and, where given, "float_onnx".
        conditions: how it was measured.
        environment: where.
        latency: how fast.
        scenarios: as benchmarks.scenarios gives them.
        accuracy: how good; None when only the latency was asked for.
        layers: the engine's layer table as plain values; empty where there is none.
        pictures: frames where the engine bends lanes most: name, caption, base64 of a JPEG.
        peers: what else could run the model, as benchmarks.peer_runtimes gives it.
    """

    model: str
    recipe: str | None
    target: str
    precision: str
    runtime: str
    made: str
    digests: Mapping[str, str]
    bytes: Mapping[str, int]
    conditions: Mapping[str, Any]
    environment: Environment
    latency: Latency
    scenarios: tuple[dict[str, Any], ...] = ()
    accuracy: Accuracy | None = None
    layers: tuple[dict[str, Any], ...] = ()
    pictures: tuple[dict[str, str], ...] = ()
    peers: tuple[dict[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("scenarios", "layers", "pictures", "peers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def warnings(self) -> list[str]:
        """What to know before believing the figures."""
        found = findings(self.latency)
        slower = self.conditions.get("slow_down")
        if isinstance(slower, (int, float)) and slower > 0:
            found.insert(0, f"every frame was made {100 * slower:g} % slower on purpose")
        found += [f"throttled: {reason}" for reason in self.environment.throttled()]
        found += self.environment.warnings()
        others = self.environment.other_cores
        if others is not None and others > 0.1:
            found.append(f"other programs kept {others:.1f} cores busy meanwhile")
        return found

    def energy_per_frame_j(self) -> float | None:
        """Joules of the device per measured frame; None if not told.

        An upper bound: what starts of processes and warm-up took is spread over the frames.
        """
        energy = self.environment.energy_j()
        return None if energy is None else energy / len(self.latency.of("total"))

    def to_dict(self) -> dict:
        """Plain JSON values, the derived ones among them for other readers."""
        own = dict(vars(self))
        own["environment"] = self.environment.to_dict()
        own["latency"] = self.latency.to_dict()
        own["accuracy"] = self.accuracy.to_dict() if self.accuracy else None
        derived = {
            "latency": self.latency.summary(),
            "accuracy": self.accuracy.figures() if self.accuracy else None,
            "categories": self.accuracy.by_category() if self.accuracy else None,
            "warnings": self.warnings(),
            "energy_per_frame_j": self.energy_per_frame_j(),
        }
        return {"kind": KIND, "schema": SCHEMA, "derived": derived, **own}

    def save(self, path: Path) -> None:
        """Write report.json; on one line, since it holds the time of every frame."""
        text = json.dumps(self.to_dict(), allow_nan=False, separators=(",", ":"))
        write_bytes(path, text.encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> BenchmarkReport:
        """Read report.json, or the one in a folder.

        Raises:
            TrtLaneError: missing, damaged, not a report or of another schema.
        """
        path = path / "report.json" if path.is_dir() else path
        values = read_json(path)
        if not isinstance(values, dict) or values.get("kind") != KIND:
            raise TrtLaneError(f"{path} is no report; expected what `make bench` wrote")
        schema = values.get("schema")
        if type(schema) is not int or schema != SCHEMA:
            raise TrtLaneError(f"{path} has schema {schema!r}, expected {SCHEMA}; run: make bench")
        try:
            check(values)
            own = {k: v for k, v in values.items() if k not in ("kind", "schema", "derived")}
            own["environment"] = Environment.from_dict(own["environment"])
            own["latency"] = Latency.from_dict(own["latency"])
            if own["accuracy"] is not None:
                own["accuracy"] = Accuracy.from_dict(own["accuracy"])
            return cls(**own)
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise TrtLaneError(f"{path} is damaged ({error}); run: make bench") from None
