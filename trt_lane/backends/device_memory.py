"""DeviceMemory: all that a loaded engine holds in memory, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from trt_lane.backends.cuda_driver import CudaDriver
from trt_lane.backends.device_buffer import DeviceBuffer


class DeviceMemory:
    """Tensors that host and device both see, and workspaces of the device alone.

    Args:
        driver: whose context is current in every call.
    """

    def __init__(self, driver: CudaDriver) -> None:
        self._driver, self._shared = driver, driver.shares_memory
        self._tensors: dict[str, DeviceBuffer] = {}
        self._workspaces: dict[str, tuple[int, int]] = {}  # size and address

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> DeviceBuffer:
        return self._tensors[name]

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> DeviceBuffer:
        """Make a tensor; one that had the name before is freed, the stream has done with it."""
        self.drop(name)
        self._tensors[name] = DeviceBuffer(self._driver, shape, dtype, self._shared)
        return self._tensors[name]

    def drop(self, name: str) -> None:
        """Free a tensor, where there is one of that name."""
        if name in self._tensors:
            self._tensors.pop(name).free()

    def reserve(self, name: str, size: int) -> None:
        """A workspace of at least that size."""
        held, address = self._workspaces.get(name, (0, 0))
        if size <= held:
            return
        if address:
            del self._workspaces[name]
            self._driver.free(address)
        self._workspaces[name] = (size, self._driver.allocate(size))

    def workspace(self, name: str) -> int:
        """Its address; 0 when nothing was needed."""
        return self._workspaces.get(name, (0, 0))[1]

    def freeing(self) -> Iterator[Callable[[], None]]:
        """What frees all of it, one call each: what one cannot do, the others still do."""
        while self._tensors:
            yield self._tensors.popitem()[1].free
        while self._workspaces:
            _, (_, address) = self._workspaces.popitem()
            yield lambda address=address: self._driver.free(address)
