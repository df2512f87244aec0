"""CurveLanes' and LLAMAS' layouts on disk, made up; the same everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from drawn import drawing

Lane = np.ndarray
# Near end, far end and distance of a marker.
MarkerSpec = tuple[tuple[int, int], tuple[int, int], float]
LLAMAS_HW = (717, 1276)


def write_frame(path: Path, hw: tuple[int, int], value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*hw, 3), value, np.uint8))


def write_curvelanes(
    root: Path, images: dict[str, tuple[tuple[int, int], list[Lane] | None]], split: str = "valid"
) -> Path:
    """A split with images by name: height and width, and lanes or None for no label file."""
    folder = root / split
    (folder / "labels").mkdir(parents=True)
    for name, (hw, lanes) in images.items():
        write_frame(folder / "images" / f"{name}.jpg", hw)
        if lanes is not None:
            lines = [[{"x": str(x), "y": str(y)} for x, y in lane] for lane in lanes]
            (folder / "labels" / f"{name}.lines.json").write_text(json.dumps({"Lines": lines}))
    (folder / f"{split}.txt").write_text("".join(f"images/{name}.jpg\n" for name in images))
    return root


def llamas_label(lanes: dict[str, list[MarkerSpec]]) -> dict:
    """A label as LLAMAS writes it: all numbers are strings."""

    def marker(near: tuple[int, int], far: tuple[int, int], distance_m: float) -> dict:
        ends = {"pixel_start": near, "pixel_end": far}
        world = {"world_start": distance_m, "world_end": distance_m + 3}
        return {
            "lane_marker_id": "m",
            **{k: {"x": str(x), "y": str(y)} for k, (x, y) in ends.items()},
            **{k: {"x": "0.5", "y": "1.2", "z": str(z)} for k, z in world.items()},
        }

    return {
        "image_name": "made",
        "projection_matrix": [["1", "0", "0"], ["0", "1", "0"], ["0", "0", "1"]],
        "lanes": [
            {"lane_id": lane_id, "markers": [marker(*m) for m in markers]}
            for lane_id, markers in lanes.items()
        ],
    }


def write_llamas(
    root: Path, labels: dict[str, dict | None], split: str = "valid", images: bool = True
) -> Path:
    """A split with frames by "drive/name": label or None for no label file."""
    for name, label in labels.items():
        if images:
            write_frame(root / "color_images" / split / f"{name}_color_rect.png", LLAMAS_HW)
        if label is not None:
            path = root / "labels" / split / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(label))
    return root


def made_llamas(count: int) -> Iterator[tuple[dict, list[Lane]]]:
    """(label, predicted lanes) of `count` images: dashes, steps, few markers, lanes far aside."""
    draw = drawing(2024)
    for _ in range(count):
        lanes: dict[str, list[MarkerSpec]] = {}
        pred: list[Lane] = []
        for lane_id in ("l2", "r0", "l0", "r3", "l1"):
            if draw(0, 1) < 0.3:
                continue
            vanishing, foot, bend = draw(560, 720), draw(-500, 1700), draw(-90, 90)

            def column(y: float, v: float = vanishing, f: float = foot, b: float = bend) -> float:
                return v + (f - v) * (y - 300) / 416 + b * ((716 - y) / 416) ** 2

            markers: list[MarkerSpec] = []
            y, distance_m = int(draw(480, 716)), draw(3, 8)
            top = int(draw(300, 500)) if draw(0, 1) < 0.9 else y - int(draw(5, 30))
            while y > top:
                far_y = max(y - int(draw(0, 60)), top)
                near_x, far_x = (int(column(v) + draw(-2, 2)) for v in (y, far_y))
                if 0 <= near_x < 1276 and 0 <= far_x < 1276:
                    markers.append(((near_x, y), (far_x, far_y), round(distance_m, 3)))
                distance_m += draw(2, 5)
                y = far_y - int(draw(0, 30))
            if markers:
                lanes[lane_id] = markers
            for _ in range(int(draw(0, 2.2))):
                rows = np.linspace(draw(600, 716), draw(310, 400), int(draw(1, 40)))
                shift = draw(-22, 22)
                lane = np.array([(column(v) + shift, v) for v in rows])
                pred.append(np.float32(lane.round(2)))
        yield llamas_label(lanes), pred
