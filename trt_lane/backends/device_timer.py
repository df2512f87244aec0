"""StageTimer: what each stage of a frame takes on the GPU, by CUDA events."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from trt_lane.backends.cuda_driver import CudaDriver

STAGES = ("h2d", "network", "d2h")


class StageTimer:
    """Events between the stages; none until `start`, and then `mark` costs a call each.

    Args:
        driver: whose context is current in every call.
        stream: of the frames.
    """

    def __init__(self, driver: CudaDriver, stream: int) -> None:
        self._driver, self._stream = driver, stream
        self._events: list[int] = []

    def start(self) -> None:
        """From now on marks are noted; a second call does nothing."""
        while len(self._events) <= len(STAGES):
            self._events.append(self._driver.create_event())

    def mark(self, number: int) -> None:
        """Stage `number` begins here, the one before it ends."""
        if self._events:
            self._driver.record(self._events[number], self._stream)

    def stages_ms(self) -> dict[str, float]:
        """Of the last frame, which is done."""
        if not self._events:
            raise ValueError("no stages were timed; call time_stages() first")
        pairs = zip(self._events, self._events[1:], strict=False)
        times = [self._driver.elapsed_ms(start, end) for start, end in pairs]
        return dict(zip(STAGES, times, strict=True))

    def freeing(self) -> Iterator[Callable[[], None]]:
        """What destroys the events, one call each; the stream has done with them."""
        while self._events:
            event = self._events.pop()
            yield lambda event=event: self._driver.destroy_event(event)
