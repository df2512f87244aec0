"""Heads for key-point grouping: GANet's sizes once, small odd maps, every capacity at its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cases import Case

from trt_lane.decoders.keypoint_grouping import KeypointGrouping
from trt_lane.plugin_library import CANDIDATES_DROPPED, LANES_DROPPED, POINTS_DROPPED

CULANE = KeypointGrouping(
    frame_hw=(590, 1640),
    crop_top=270,
    input_hw=(320, 800),
    heat_hw=(40, 100),
    keypoint_threshold=0.4,
    min_points=11,
    root_distance=5.0,
)
# 11 x 37 cells are a block and a part of one; 403 is odd in every way.
ODD = KeypointGrouping((100, 240), 20, (88, 296), (11, 37), 0.4, 3, 2.0, whole_pixels=False)


def background(decoder: KeypointGrouping, seed: int = 0) -> dict[str, np.ndarray]:
    """Heads without a key point."""
    rng = np.random.default_rng(seed)
    height, width = decoder.heat_hw
    heads = {
        "kpts_hm_logits": rng.normal(-5, 1, (1, height, width)),
        "pts_offset": rng.normal(0, 9, (2, height, width)),
        "int_offset": rng.uniform(-0.2, 1.2, (2, height, width)),
    }
    return {name: head.astype(np.float32) for name, head in heads.items()}


def with_lanes(decoder: KeypointGrouping, lanes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Straight lanes side by side, key points in every row."""
    heads = background(decoder, seed)
    rng = np.random.default_rng(seed + 100)
    height, width = decoder.heat_hw
    for lane in range(lanes):
        bottom = int((lane + 0.5) * width / lanes)
        for y in range(height // 5, height):
            x = int(bottom + (width / 2 - bottom) * 0.5 * (1 - (y + 1) / height))
            heads["kpts_hm_logits"][0, y, x] = rng.normal(3, 0.7)
            heads["pts_offset"][:, y, x] = (bottom - x, height - 1 - y)
            heads["pts_offset"][:, y, x] += rng.normal(0, 0.1, 2)
    return heads


def cases() -> list[Case]:
    """See cases.py."""
    full = with_lanes(ODD, 5, seed=1)
    typical = with_lanes(ODD, 3)
    # A probability of exactly one half is not above it; equal neighbours are both key points.
    tie = with_lanes(ODD, 2, seed=2)
    tie["kpts_hm_logits"][0, 3:, 18:] = 0
    tie["kpts_hm_logits"][0, 3:, 2:4] = 6
    tie["pts_offset"][:, 3:, 2:4] = 0
    edge = background(ODD)
    for x in (0, 36):
        edge["kpts_hm_logits"][0, :, x] = 20  # clamped
        edge["pts_offset"][0, :, x] = 0
        edge["pts_offset"][1, :, x] = np.arange(10, -1, -1)
    broken = {}
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken[name] = {k: v.copy() for k, v in full.items()}
        for i, value in enumerate(values):
            broken[name]["kpts_hm_logits"][0, 3 + i] = value
            broken[name]["pts_offset"][i, 5] = value
            broken[name]["int_offset"][i, 7, ::2] = value
    # Everything is a key point and a root: one cluster as wide as the map.
    level = {k: np.zeros_like(v) for k, v in full.items()}
    level["kpts_hm_logits"][:] = 3
    noise = {k: v * np.float32(1.5) + (k == "kpts_hm_logits") * 7 for k, v in full.items()}
    huge = {k: v * np.float32(1e36) for k, v in full.items()}
    centres = {**typical, "cpts_hm_logits": typical["kpts_hm_logits"]}
    dropped = LANES_DROPPED
    return [
        Case("full_size_culane", CULANE, with_lanes(CULANE, 4, seed=4)),
        Case("typical", ODD, typical),
        Case("empty", ODD, background(ODD)),
        Case("one", ODD, with_lanes(ODD, 1)),
        Case("tie_at_threshold", replace(ODD, keypoint_threshold=0.5), tie),
        Case("image_edge", ODD, edge),
        *(Case(name, ODD, heads) for name, heads in broken.items()),
        Case("huge_numbers", ODD, huge),
        Case("every_slot_full", ODD, full, {"slots": 5}),
        Case("one_more_than_full", ODD, full, {"slots": 4}, dropped),
        Case("every_cell_a_root", ODD, level, {"points": 407}),
        Case("longest_lane_fits", ODD, with_lanes(ODD, 1), {"points": 9}),
        Case("one_point_too_many", ODD, with_lanes(ODD, 1), {"points": 8}, POINTS_DROPPED),
        Case("noise", ODD, noise),
        Case("whole_pixels", replace(ODD, whole_pixels=True), noise),
        Case("as_many_points_as_needed", replace(ODD, min_points=9), full),
        Case("one_less_than_needed", replace(ODD, min_points=10), full),
        Case("every_lane_is_short", replace(ODD, min_points=1, root_distance=0.0), noise),
        Case("centre_map", ODD, centres, {"cpts_maps": 1}),
        Case(
            "one_cell",
            KeypointGrouping((8, 8), 0, (8, 8), (1, 1), 0.3, 1, 1.0),
            {k: np.float32([[[1]]] * n) for k, n in _ONE.items()},
        ),
        *_roots(),
    ]


def _roots() -> list[Case]:
    """As many roots as there is room for, and one more, which no lane misses: it stands alone."""
    heads = with_lanes(ODD, 2, seed=6)
    heads["kpts_hm_logits"][0, 0, 36] = 3
    heads["pts_offset"][:, 0, 36] = 0
    root = (heads["kpts_hm_logits"][0] > 0) & (heads["pts_offset"][1] < ODD.root_rows)
    count = int(root.sum())
    return [
        Case("as_many_roots_as_room", ODD, heads, {"roots": count}),
        Case("one_root_too_many", ODD, heads, {"roots": count - 1}, CANDIDATES_DROPPED),
    ]


_ONE = {"kpts_hm_logits": 1, "pts_offset": 2, "int_offset": 2}
