"""Backoff: how long to wait before the next try of what fails again and again."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Doubles from `first_s` to `most_s`, and begins anew after a success."""

    first_s: float
    most_s: float
    failures: int = field(default=0, init=False)

    def next_s(self) -> float:
        """The wait after a further failure."""
        # The exponent is bounded: 2 ** 5000 is no float.
        wait = self.first_s * 2.0 ** min(self.failures, 30)
        self.failures += 1
        return min(wait, self.most_s)

    def reset(self) -> None:
        """It worked."""
        self.failures = 0
