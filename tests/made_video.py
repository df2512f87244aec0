"""Small videos, really encoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write_video(
    path: Path, pictures: Iterable[np.ndarray], rate_hz: float, codec: str = "MJPG"
) -> Path:
    """A video of these pictures (H, W, 3), all of one size."""
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate_hz, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def brightening(count: int, height: int, width: int, step: int) -> list[np.ndarray]:
    """Black, then every picture lighter than the one before."""
    return [np.full((height, width, 3), step * i, np.uint8) for i in range(count)]
