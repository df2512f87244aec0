"""DeviceState: what changes while something is measured: clocks, heat, power, other programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class DeviceState:
    """What a device said at one moment; what it did not say is empty or None.

    Attributes:
        at_s: seconds since the environment was first read.
        when: "before", "during" or "after" the measurement.
        clocks_mhz: by part: "cpu", "gpu", "memory".
        temperatures_c: by sensor.
        throttle: why the device holds its clocks down, in words; empty when it does not.
        throttle_counts: events since the start of the machine, by kind.
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
    throttle: tuple[str, ...] = ()
    throttle_counts: dict[str, int] = field(default_factory=dict)
    power_w: float | None = None
    energy_j: float | None = None
    memory_used_mb: float | None = None
    load_average: float | None = None
    busy_cores: float | None = None

    def __post_init__(self) -> None:
        if self.when not in ("before", "during", "after"):
            raise ValueError(f"when is {self.when!r}; expected before, during or after")
        object.__setattr__(self, "throttle", tuple(self.throttle))

    def joined(self, other: DeviceState | None) -> DeviceState:
        """Both together; where both say something this one holds."""
        if other is None:
            return self
        ours, theirs = asdict(self), asdict(other)
        values = {
            k: {**theirs[k], **v} if isinstance(v, dict) else (v or theirs[k])
            for k, v in ours.items()
        }
        return DeviceState(**{**values, "when": self.when, "at_s": self.at_s})
