"""Better, the same, worse, or too noisy to tell: from an estimate with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Word(str, Enum):
    """What a comparison says of one figure."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    NOISE = "not comparable: noise"
    OTHER = "not comparable"


@dataclass(frozen=True)
class Scale:
    """What differences of a figure matter; in the unit of its change, up is worse.

    Attributes:
        margin: a certain change up to here is nothing.
        limit: a change from here on must never pass: where the interval reaches it, the figure is
            not called the same.
    """

    margin: float
    limit: float

    def __post_init__(self) -> None:
        if not 0 <= self.margin < self.limit:
            raise ValueError(f"margin {self.margin}, limit {self.limit}; expected 0 <= margin < it")

    def word(self, low: float, high: float) -> Word:
        """The verdict on a change whose interval is [low, high], 0 for none."""
        if low > self.margin:
            return Word.WORSE
        if high < -self.margin:
            return Word.BETTER
        return Word.SAME if high < self.limit else Word.NOISE


@dataclass(frozen=True)
class Verdict:
    """One figure of two reports.

    Attributes:
        figure: its name.
        base, new: its values.
        change: of the new one, in `unit`; positive is worse.
        low, high: its 95 % interval.
        unit: "%" or "points" or "px".
        word: what it comes to.
        gates: whether it decides the exit status.
        reason: why it cannot be told, or the test's p.
    """

    figure: str
    base: float | None
    new: float | None
    change: float | None
    low: float | None
    high: float | None
    unit: str
    word: Word
    gates: bool
    reason: str = ""

    def to_dict(self) -> dict:
        """Plain values; an interval without a bound has None there."""
        values = {**vars(self), "word": self.word.value}
        for name in ("low", "high", "change"):
            value = values[name]
            finite = value is not None and abs(value) < 1e300
            values[name] = value if finite else None
        return values


def exit_status(verdicts: list[Verdict]) -> int:
    """0 no gate is worse, 1 one is, 2 none is but one cannot be compared."""
    words = {v.word for v in verdicts if v.gates}
    if Word.WORSE in words:
        return 1
    return 2 if words & {Word.NOISE, Word.OTHER} or not words else 0
