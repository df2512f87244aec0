"""DeviceState: what changes while something is measured: clocks, heat, power, other programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

# Begins the names of the counters in `throttle_counts` that may rise while no clock is held down.
OVER_CURRENT = "over-current"


@dataclass(frozen=True)
class DeviceState:
    """What a device said at one moment; what it did not say is empty or None.

    Attributes:
        at_s: seconds since the environment was first read.
        when: "before", "during" or "after" the measurement.
        clocks_mhz: by part: "cpu", "gpu", "memory".
        temperatures_c: by sensor.
        throttle: why the device holds its clocks down, in words; empty when it does not, None
            where nothing could tell.
        throttle_counts: events since the start of the machine, by kind in words.
        power_w: of the GPU or board.
        energy_j: a counter, of the same part as the power.
        memory_used_mb: of the GPU, or of the board where the GPU shares it.
        load_average: of the last minute, as the system counts it.
        busy_cores: cores that all programs together kept busy since the state before this one.
    """

    when: str = "before"
    at_s: float = 0.0
    clocks_mhz: dict[str, float] = field(default_factory=dict)
    temperatures_c: dict[str, float] = field(default_factory=dict)
    throttle: tuple[str, ...] | None = None
    throttle_counts: dict[str, int] = field(default_factory=dict)
    power_w: float | None = None
    energy_j: float | None = None
    memory_used_mb: float | None = None
    load_average: float | None = None
    busy_cores: float | None = None

    def __post_init__(self) -> None:
        if self.when not in ("before", "during", "after"):
            raise ValueError(f"when is {self.when!r}; expected before, during or after")
        if self.throttle is not None:
            object.__setattr__(self, "throttle", tuple(self.throttle))

    def events_since(self, before: DeviceState) -> dict[str, int]:
        """Counters that rose, by how much; one that only one of the two has says nothing."""
        first = before.throttle_counts
        rises = {k: n - first.get(k, n) for k, n in self.throttle_counts.items()}
        return {kind: rise for kind, rise in rises.items() if rise > 0}

    def joined(self, other: DeviceState | None) -> DeviceState:
        """Both together; where both say something this one holds, of reasons all."""
        if other is None:
            return self
        ours, theirs = asdict(self), asdict(other)
        values = {
            k: {**theirs[k], **v} if isinstance(v, dict) else (v or theirs[k])
            for k, v in ours.items()
        }
        told = [t for t in (self.throttle, other.throttle) if t is not None]
        values["throttle"] = tuple(dict.fromkeys(sum(told, ()))) if told else None
        return DeviceState(**{**values, "when": self.when, "at_s": self.at_s})
