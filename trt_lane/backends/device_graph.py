"""Replay: what is enqueued for every frame, as a CUDA graph from the second time on."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from trt_lane.backends.cuda_driver import CudaDriver, DeviceError
from trt_lane.errors import TrtLaneError


class Replay:
    """Enqueues the first time, captures the second, then launches; anew when the shape changes.

    Args:
        driver: whose context is current in every call.
        stream: of everything.

    Attributes:
        captures: False enqueues every time: after a capture that failed, or for timing.
    """

    def __init__(self, driver: CudaDriver, stream: int) -> None:
        self._driver, self._stream = driver, stream
        self._graph: int | None = None
        self._graph_of: Hashable = None
        self._seen: Hashable = None
        self.captures = True

    def run(self, shape: Hashable, enqueue: Callable[[], None]) -> None:
        """Do it, and wait until it is done.

        Args:
            shape: what must be equal for a graph to be the same.
            enqueue: puts all work on the stream.
        """
        if not (self._graph_of == shape and self._graph is not None):
            # An engine does some of its work only in its first run, which no graph may hold.
            captured = self.captures and self._seen == shape and self._capture(shape, enqueue)
            if not captured:
                enqueue()
                self._driver.synchronize(self._stream)
                self._seen = shape
                return
        self._driver.launch(self._graph, self._stream)
        self._driver.synchronize(self._stream)

    def forget(self) -> None:
        """Destroy the graph: what it copies is about to change. The stream has done with it."""
        graph, self._graph, self._graph_of, self._seen = self._graph, None, None, None
        if graph is not None:
            self._driver.destroy_graph(graph)

    def _capture(self, shape: Hashable, enqueue: Callable[[], None]) -> bool:
        self.forget()
        self._driver.begin_capture(self._stream)
        try:
            enqueue()
        except BaseException as error:
            self._driver.abandon_capture(self._stream)
            if not isinstance(error, TrtLaneError):
                raise
            self.captures = False  # an engine that cannot be captured still runs
            return False
        try:
            self._graph = self._driver.end_capture(self._stream)
        except DeviceError:
            self.captures = False
            return False
        self._graph_of = shape
        return True
