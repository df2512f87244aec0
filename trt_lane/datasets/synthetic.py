"""Synthetic road scenes in CULane's form: rendered frames with lanes and a category, by seed."""

import argparse
import sys
import zlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import cv2
import numpy as np

from trt_lane.datasets._road_geometry import FULL_HEIGHT_PX, FULL_WIDTH_PX, View
from trt_lane.datasets._road_renderer import render_scene
from trt_lane.datasets._road_scene import Category, Scene
from trt_lane.datasets._scene_sampler import sample_scene
from trt_lane.image import ASPECT_TOLERANCE
from trt_lane.lanes import LANE_COLOURS
from trt_lane.svg import svg_of

__all__ = ["Category", "Split", "SyntheticFrame", "contact_sheet", "main", "render", "sample"]

FULL_HW = (FULL_HEIGHT_PX, FULL_WIDTH_PX)
ROW_STEP_PX = 10
FARTHEST_LABEL_M = 90.0
MIN_LANE_POINTS = 5  # of rows 10 px apart: less than 40 px of a lane is not labelled
MIN_FRAME_HEIGHT = 32


class Split(str, Enum):
    """The disjoint parts of the data set."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True, eq=False)
class SyntheticFrame:
    """A frame with its ground truth.

    Attributes:
        frame: uint8 (H, W, 3), BGR.
        lanes: from left to right, each float32 (P, 2): x, y in frame pixels, bottom first.
        category: what kind of scene it is.
        lane_slots: for each lane its place 0..3; 1 and 2 are the ego lines.
    """

    frame: np.ndarray  # (H, W, 3)
    lanes: tuple[np.ndarray, ...]
    category: Category
    lane_slots: tuple[int, ...]


def render(
    seed: int,
    index: int,
    split: Split,
    frame_hw: tuple[int, int] = FULL_HW,
    category: Category | None = None,
) -> SyntheticFrame:
    """Frame number `index` of a split; the same scene and lanes at every frame size.

    Args:
        seed: the data set's seed, not negative.
        index: the frame's number, not negative.
        split: part of the data set; no two splits share a scene.
        frame_hw: height and width, of CULane's aspect ratio.
        category: the category wanted, instead of one drawn by CULane's proportions.
    """
    frame_hw = _checked_size(frame_hw)
    scene = sample(seed, index, split, category)
    lanes, slots = ground_truth(scene)
    scale = np.float32([frame_hw[1] / FULL_WIDTH_PX, frame_hw[0] / FULL_HEIGHT_PX])
    return SyntheticFrame(
        frame=render_scene(scene, frame_hw),
        lanes=tuple(lane * scale for lane in lanes),
        category=scene.category,
        lane_slots=slots,
    )


def sample(seed: int, index: int, split: Split, category: Category | None = None) -> Scene:
    """The scene that render() draws, without drawing it."""
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed}, index {index}; expected numbers that are not negative")
    split_id = zlib.crc32(Split(split).value.encode())
    rng = np.random.default_rng(np.random.SeedSequence([split_id, seed, index]))
    return sample_scene(rng, None if category is None else Category(category))


def ground_truth(scene: Scene) -> tuple[tuple[np.ndarray, ...], tuple[int, ...]]:
    """Lanes and slots in the full frame, as CULane labels them: also where paint is hidden."""
    lanes, slots = [], []
    for boundary in scene.boundaries:
        lane = _lane_points(scene.view, boundary.offset_m)
        if len(lane) >= MIN_LANE_POINTS:
            lanes.append(lane)
            slots.append(boundary.slot)
    return tuple(lanes), tuple(slots)


def _lane_points(view: View, offset_m: float) -> np.ndarray:
    """(P, 2): the lowest unbroken run of in-frame points, every ROW_STEP_PX rows, bottom first."""
    rows = np.arange(FULL_HEIGHT_PX, 0, -ROW_STEP_PX)
    z = view.distance_m(rows)
    labelled = np.isfinite(z) & (z <= FARTHEST_LABEL_M)
    rows, z = rows[labelled], z[labelled]
    cols = view.along_road(offset_m, 0.0, z)[:, 0]
    inside = (cols >= 0) & (cols <= FULL_WIDTH_PX - 1)
    if not inside.any():
        return np.empty((0, 2), np.float32)
    first = int(np.argmax(inside))
    leaves = np.flatnonzero(~inside[first:])
    end = first + int(leaves[0]) if len(leaves) else len(rows)
    return np.stack([cols, rows], 1)[first:end].astype(np.float32)


def _checked_size(frame_hw: tuple[int, int]) -> tuple[int, int]:
    height, width = (int(n) for n in frame_hw)
    aspect = FULL_WIDTH_PX / FULL_HEIGHT_PX
    if height < MIN_FRAME_HEIGHT or abs(width / height / aspect - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"frame_hw is ({height}, {width}); expected at least {MIN_FRAME_HEIGHT} rows and "
            f"{FULL_HEIGHT_PX} x {FULL_WIDTH_PX}'s aspect ratio, for instance "
            f"({max(height, MIN_FRAME_HEIGHT)}, {round(max(height, MIN_FRAME_HEIGHT) * aspect)})"
        )
    return height, width


def contact_sheet(
    seed: int = 0, columns: int = 3, per_category: int = 1, with_lanes: bool = True
) -> np.ndarray:
    """A grid of examples of every category, named, with the ground truth drawn; BGR."""
    tile_hw, gap = (236, 656), 6
    tiles = []
    for place, category in enumerate(Category):
        for k in range(per_category):
            shot = render(seed, place * per_category + k, Split.TEST, tile_hw, category)
            tiles.append(_captioned(shot, with_lanes))
    while len(tiles) % columns:
        tiles.append(np.full_like(tiles[0], 255))
    tiles = [cv2.copyMakeBorder(t, 0, gap, 0, gap, cv2.BORDER_CONSTANT, value=(255,) * 3)
             for t in tiles]  # fmt: skip
    rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    return np.vstack(rows)[:-gap, :-gap]


def _captioned(shot: SyntheticFrame, with_lanes: bool) -> np.ndarray:
    tile = shot.frame.copy()
    if with_lanes:
        for lane, slot in zip(shot.lanes, shot.lane_slots, strict=True):
            points = np.round(lane * 16).astype(np.int32)
            cv2.polylines(tile, [points], False, LANE_COLOURS[slot], 1, cv2.LINE_AA, 4)
    cv2.rectangle(tile, (0, 0), (12 + 10 * len(shot.category.value), 26), (0, 0, 0), -1)
    cv2.putText(
        tile, shot.category.value, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1,
        cv2.LINE_AA,
    )  # fmt: skip
    return tile


def main(arguments: list[str] | None = None) -> int:
    """Write a contact sheet; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trt_lane.datasets.synthetic",
        description="Write a contact sheet of the synthetic road scenes, every category.",
    )
    parser.add_argument("--out", type=Path, required=True, help="picture to write, e.g. sheet.png")
    parser.add_argument("--lanes", action="store_true", help="draw the ground truth lanes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data set (default 0)")
    parser.add_argument("--columns", type=int, default=3, help="pictures side by side (default 3)")
    parser.add_argument("--per-category", type=int, default=1, help="examples of each (default 1)")
    options = parser.parse_args(arguments)
    if min(options.columns, options.per_category) < 1 or options.seed < 0:
        parser.error("--columns and --per-category start at 1, --seed at 0")
    suffix = options.out.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg", ".svg"):
        parser.error(f"--out {options.out}: expected a name that ends in .png, .jpg or .svg")
    sheet = contact_sheet(options.seed, options.columns, options.per_category, options.lanes)
    picture = svg_of(sheet) if suffix == ".svg" else cv2.imencode(suffix, sheet)[1].tobytes()
    try:
        options.out.write_bytes(picture)
    except OSError as error:
        print(f"cannot write {options.out}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
