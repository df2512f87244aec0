"""Numbers that are drawn the same everywhere, whichever library is installed."""

from __future__ import annotations

from collections.abc import Callable


def drawing(seed: int) -> Callable[[float, float], float]:
    """draw(low, high): a number in [low, high), by the C standard's example of rand()."""
    state = seed

    def draw(low: float, high: float) -> float:
        nonlocal state
        state = (1103515245 * state + 12345) % 2**31
        return low + (high - low) * state / 2**31

    return draw
