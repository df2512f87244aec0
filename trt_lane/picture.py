"""One picture to look at: float and INT8 lanes, worst frames first, then typical ones."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from trt_lane.lanes import LaneSet

FLOAT_BGR, INT8_BGR = (120, 230, 60), (40, 60, 255)
TILE_WIDTH = 820
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def choose_frames(distortions_px: Sequence[float], count: int = 6) -> list[int]:
    """Positions to show: the worst half, then typical ones (around the median), each once."""
    order = [int(i) for i in np.argsort(distortions_px)[::-1]]
    worst = order[: (count + 1) // 2]
    rest = [i for i in order if i not in worst]
    middle = len(rest) // 2
    wanted = count - len(worst)
    start = max(0, min(middle - wanted // 2, len(rest) - wanted))
    return worst + rest[start : start + wanted]


def draw_comparison(
    frames: Sequence[np.ndarray],
    float_lanes: Sequence[LaneSet],
    int8_lanes: Sequence[LaneSet],
    captions: Sequence[str],
    columns: int = 2,
) -> np.ndarray:
    """A sheet of BGR tiles: float lanes wide and green, INT8 lanes thin and red on top of them."""
    tiles = []
    for frame, wide, thin, caption in zip(frames, float_lanes, int8_lanes, captions, strict=True):
        height = round(TILE_WIDTH * frame.shape[0] / frame.shape[1])
        tile = cv2.resize(frame, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
        tile = wide.draw(tile, FLOAT_BGR, thickness=8)
        tile = thin.draw(tile, INT8_BGR, thickness=2)
        cv2.rectangle(tile, (0, 0), (TILE_WIDTH, 26), (0, 0, 0), -1)
        cv2.putText(tile, caption, (8, 19), _FONT, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    height = max(tile.shape[0] for tile in tiles)
    padded = [
        cv2.copyMakeBorder(t, 0, height - t.shape[0] + 6, 0, 6, cv2.BORDER_CONSTANT) for t in tiles
    ]
    while len(padded) % columns:
        padded.append(np.zeros_like(padded[0]))
    rows = [np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)]
    return np.vstack([_legend(rows[0].shape[1]), *rows])


def _legend(width: int) -> np.ndarray:
    strip = np.zeros((34, width, 3), np.uint8)
    x = 10
    for colour, thickness, text in ((FLOAT_BGR, 8, "float"), (INT8_BGR, 2, "INT8")):
        cv2.line(strip, (x, 17), (x + 40, 17), colour, thickness, cv2.LINE_AA)
        cv2.putText(strip, text, (x + 50, 23), _FONT, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
        x += 150
    cv2.putText(
        strip,
        "frames with the largest Lane Distortion Score first",
        (x, 23),
        _FONT,
        0.55,
        (180, 180, 180),
        1,
        cv2.LINE_AA,
    )
    return strip
