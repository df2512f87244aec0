"""Pillow's antialiased BILINEAR resize without Pillow: what torchvision's Resize does."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Pillow's 8-bit path keeps coefficients in 22 - ... bits: https://github.com/python-pillow/Pillow
# src/libImaging/Resample.c, PRECISION_BITS = 32 - 8 - 2.
_PRECISION_BITS = 22
# Lines at once: their 32-bit sums stay in the cache, and a frame's would take 10 MB.
_LINES = 64


def antialiased_resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, C) to (h, w, C) as Pillow's Image.resize(…, BILINEAR) does.

    Horizontal pass first, rounded to 8 bits between the passes, as Pillow before 13 does. Pillow 13
    starts with the vertical pass when the height shrinks more than the width, which changes some
    pixels by 1 (https://github.com/python-pillow/Pillow/pull/9549); networks were trained before.
    """
    height, width = size_hw
    across = _resize_rows(np.ascontiguousarray(image.transpose(1, 0, 2)), width)
    return _resize_rows(np.ascontiguousarray(across.transpose(1, 0, 2)), height)


def _resize_rows(image: np.ndarray, size: int) -> np.ndarray:
    """Resize axis 0 of uint8 (N, ...) to `size`."""
    if image.shape[0] == size:
        return image
    taps, weights = _triangle_taps(image.shape[0], size)
    weights = weights.reshape(*weights.shape, *(1,) * (image.ndim - 1))  # (size, K, 1, ...)
    out = np.empty((size, *image.shape[1:]), np.uint8)
    for start in range(0, size, _LINES):
        part = slice(start, start + _LINES)
        sums = np.full(out[part].shape, 1 << (_PRECISION_BITS - 1), np.int32)
        for k in range(taps.shape[1]):
            sums += image[taps[part, k]] * weights[part, k]
        sums >>= _PRECISION_BITS
        out[part] = np.clip(sums, 0, 255, out=sums)
    return out


@lru_cache(maxsize=32)
def _triangle_taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (target, K) and fixed-point weights int32 (target, K) of the triangle filter."""
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), source)
    offsets = np.arange((last - first).max())
    taps = first[:, None] + offsets  # (target, K)
    weights = np.maximum(0, 1 - np.abs((taps + 0.5 - centre[:, None]) / support))
    weights[taps >= last[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = np.floor(weights * (1 << _PRECISION_BITS) + 0.5).astype(np.int32)
    return np.minimum(taps, source - 1), fixed
