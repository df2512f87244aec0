"""What made-up data sets in tests are made of."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

ROWS = list(range(100, 200, 10))


def write_image(path: Path, hw: tuple[int, int] = (200, 400), value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*hw, 3), value, np.uint8)
    image[::7, ::5] = 255 - value
    assert cv2.imwrite(str(path), image)
