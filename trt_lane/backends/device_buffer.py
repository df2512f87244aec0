"""DeviceBuffer: a tensor that CPU and GPU both see, in one memory or in two."""

from __future__ import annotations

import ctypes
import math

import numpy as np

from trt_lane.backends.cuda_driver import CudaDriver


class DeviceBuffer:
    """Page-locked host memory and its twin on the device; made once, used for every frame.

    Args:
        driver: whose context is current.
        shape, dtype: of the tensor.
        shared: GPU and CPU have one memory: the twin is the same memory, and nothing is copied.

    Attributes:
        host: numpy array on the page-locked memory.
        device: address on the device.
    """

    def __init__(
        self, driver: CudaDriver, shape: tuple[int, ...], dtype: np.dtype, shared: bool
    ) -> None:
        self._driver, self._shared = driver, shared
        self.nbytes = max(1, math.prod(shape) * dtype.itemsize)
        self._host_address = driver.allocate_host(self.nbytes)
        try:
            self.device = (
                driver.device_address(self._host_address)
                if shared
                else driver.allocate(self.nbytes)
            )
        except BaseException:
            driver.free_host(self._host_address)
            raise
        memory = (ctypes.c_char * self.nbytes).from_address(self._host_address)
        count = math.prod(shape)
        self.host = np.frombuffer(memory, dtype, count).reshape(shape)

    def upload(self, stream: int) -> None:
        """Bring the host's content to the device."""
        if not self._shared:
            self._driver.copy_to_device(self.device, self._host_address, self.nbytes, stream)

    def download(self, stream: int) -> None:
        """Bring the device's content to the host; it is there after the stream's next wait."""
        if not self._shared:
            self._driver.copy_to_host(self._host_address, self.device, self.nbytes, stream)

    def free(self) -> None:
        """Give both back; the stream has done with them."""
        del self.host
        try:
            if not self._shared:
                self._driver.free(self.device)
        finally:  # a device that is lost still gives the host its memory back
            self._driver.free_host(self._host_address)
