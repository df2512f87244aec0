"""Made-up images of lanes for scorers, the same everywhere: no library draws the numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from drawn import drawing

Lanes = list[np.ndarray]


def made(count: int) -> Iterator[tuple[Lanes, Lanes, tuple[int, int]]]:
    """(pred, anno, frame_hw) of `count` images: bent lanes, found nearly, twice, or not at all."""
    draw = drawing(12345)
    for image in range(count):
        frame_hw = ((1440, 2560), (660, 1570), (720, 1280))[image % 3]
        height, width = frame_hw
        anno, pred = [], []
        for _ in range(int(draw(0, 6))):
            points = int(draw(1, 14))
            y = np.linspace(draw(0.8, 1.05), draw(0.3, 0.6), points)
            x = draw(0.1, 0.9) + draw(-0.7, 0.7) * (1 - y) + draw(-1.5, 1.5) * (1 - y) ** 2
            lane = np.stack([x * width, y * height], axis=1).round(2)
            anno.append(lane)
            for _ in range(int(draw(0, 2.4))):
                shift = np.array([draw(-0.02, 0.02) * width, draw(-9, 9)])
                pred.append((lane + shift).round(3))
        yield pred, anno, frame_hw
