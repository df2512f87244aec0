"""A fixed piece of work of no model: tells a slower machine from a slower engine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_SIZE = 256
_PRODUCTS = 8
_COPY_BYTES = 4 << 20


class Canary:
    """Products of matrices that stay in the cache and copies that do not, on `threads` threads."""

    def __init__(self, threads: int) -> None:
        rng = np.random.default_rng(0)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._matrices = [
            rng.standard_normal((2, _SIZE, _SIZE), np.float32) for _ in range(threads)
        ]
        self._results = [np.empty((_SIZE, _SIZE), np.float32) for _ in range(threads)]
        self._buffers = [np.zeros((2, _COPY_BYTES), np.uint8) for _ in range(threads)]
        self.time_ms()

    def time_ms(self, repeats: int = 5) -> float:
        """The median of some repeats: what the machine, shared as it is, can do now."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            list(self._pool.map(self._work, range(self._threads)))
            times.append(time.perf_counter() - start)
        return 1e3 * float(np.median(times))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _work(self, number: int) -> None:
        left, right = self._matrices[number]
        for _ in range(_PRODUCTS):
            np.matmul(left, right, out=self._results[number])
        source, target = self._buffers[number]
        np.copyto(target, source)
        np.copyto(source, target)
