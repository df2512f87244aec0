"""Heads for dynamic masks: CondLaneNet's sizes once, small ones with one and several lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cases import Case

from trt_lane.decoders.dynamic_mask import DynamicMask
from trt_lane.plugin_library import LANES_DROPPED

CULANE = DynamicMask((590, 1640), 270, (320, 800), (20, 50), (40, 100), 4.0)
# 19 columns leave part of a warp idle; 7 x 41 cells are a block and a part of one.
ODD = DynamicMask((100, 240), 20, (72, 152), (7, 41), (9, 19), 1.5, slots=6)
SHARED = replace(ODD, steps=3)
# Sums over more than 128 columns go by halves, of 72 and 73, and of 144 and 145.
WIDE = replace(ODD, mask_hw=(5, 145), input_hw=(40, 1160), slots=3)
WIDEST = replace(ODD, mask_hw=(5, 289), input_hw=(40, 2312), slots=2)


def background(decoder: DynamicMask, seed: int = 0) -> dict[str, np.ndarray]:
    """Heads without a start point; masks, offsets and ranges are noise."""
    rng = np.random.default_rng(seed)
    heads = {k: rng.normal(0, 2, v).astype(np.float32) for k, v in decoder.shapes.items()}
    heads["hm_logits"] = rng.normal(-6, 1, (1, *decoder.heat_hw)).astype(np.float32)
    heads["peaks"][:] = -20
    return heads


def with_starts(
    decoder: DynamicMask, cells: list[tuple[int, int]], seed: int = 0, logit: float = 2.0
) -> dict[str, np.ndarray]:
    """Start points at cells (x, y), from left to right, each with straight lanes."""
    heads, rng = background(decoder, seed), np.random.default_rng(seed + 100)
    height, width = decoder.mask_hw
    for slot, (x, y) in enumerate(sorted(cells)):
        heads["hm_logits"][0, y, x] = logit
        heads["peaks"][slot] = logit
    at = np.linspace(*rng.uniform(0, width - 1, (2, decoder.slots, decoder.steps)), height)
    at = np.moveaxis(at, 0, -1).reshape((*heads["ranges"].shape[:-2], height, 1))
    column = np.arange(width)
    heads["masks"] += 14 * np.exp(-(((column - at) / 1.7) ** 2)).astype(np.float32)
    heads["ranges"][..., 1, height // 4 :] += 9
    return heads


def cases() -> list[Case]:
    """See cases.py."""
    cells = [(2, 3), (8, 0), (14, 6), (21, 2), (29, 6), (40, 5)]
    full, typical = with_starts(ODD, cells, 1), with_starts(ODD, cells[:3])
    shared = with_starts(SHARED, cells, 2)
    crowded = background(ODD, 3)
    crowded["hm_logits"][0, ::2, ::3] = np.linspace(1, 3, 4 * 14).reshape(4, 14).round(1)
    crowded["peaks"][:] = 1
    joined = with_starts(ODD, [(2, 3), (3, 5), (4, 4), (20, 3), (20, 5), (30, 0)], 4)
    # A logit of exactly 0 is a probability of one half: no start. Of equal rows none is there.
    tie = with_starts(ODD, cells[:4], 5)
    tie["hm_logits"][0, 3, 2] = 0
    tie["ranges"][1, 0] = tie["ranges"][1, 1]
    tie["masks"][2] = 0
    plateau = with_starts(ODD, [(5, 1)], 6, logit=20.0)
    plateau["hm_logits"][0, 1:3, 5:7] = [[12, 30], [9.3, 11]]  # all beyond the clamp
    plateau["peaks"][:4] = 20
    edge = with_starts(ODD, [(0, 0), (40, 6), (0, 6)], 7)
    edge["masks"][0, :, 0] = edge["masks"][1, :, -1] = 90
    edge["ranges"][:, 1] = 9
    edge["ranges"][:, 0] = 0
    short = with_starts(ODD, cells[:3], 8)
    short["ranges"][:, 1] = -9
    short["ranges"][0, 1, 4] = 9  # one row becomes three
    broken = {}
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken[name] = {k: v.copy() for k, v in shared.items()}
        for i, value in enumerate(values):
            broken[name]["hm_logits"][0, 0, 3 + i] = value
            broken[name]["masks"][i, 0, 2 + i, 3] = value
            broken[name]["regs"][i, 1, 4 + i] = value
            broken[name]["ranges"][2, i, 1, 3] = value
            broken[name]["states"][3, i, 1] = value
            broken[name]["peaks"][4 + i] = value
    huge = {k: v * np.float32(1e30 if k == "regs" else 1e37) for k, v in full.items()}
    wide = {}
    for seed, decoder in enumerate((WIDE, WIDEST)):
        wide[decoder] = with_starts(decoder, cells[: decoder.slots], seed)
        wide[decoder]["masks"][0, 2] = 0
        wide[decoder]["masks"][0, 2, 77] = 16  # the rest is just above the steps of one
    return [
        Case(
            "full_size_culane",
            CULANE,
            with_starts(CULANE, [(3, 15), (15, 19), (33, 19), (47, 12)], 9),
        ),
        Case("typical", ODD, typical),
        Case("empty", ODD, background(ODD)),
        Case("one", ODD, with_starts(ODD, cells[3:4])),
        Case("tie_at_threshold", ODD, tie),
        Case("plateau", ODD, plateau),
        Case("image_edge", ODD, edge),
        *(Case(name, SHARED, heads) for name, heads in broken.items()),
        Case("huge_numbers", ODD, huge),
        Case("every_slot_full", ODD, full),
        Case("one_more_than_full", ODD, full, {"lanes": 5}, LANES_DROPPED),
        Case("more_room_than_lanes", ODD, full, {"lanes": 9}),
        Case("several_lanes_a_start", SHARED, shared),
        Case("several_lanes_too_many", SHARED, shared, {"lanes": 4}, LANES_DROPPED),
        Case("more_peaks_than_slots", ODD, crowded),
        Case("neighbours_are_one", ODD, joined),
        Case("neighbours_are_apart", replace(ODD, nms_cells=0.0), joined),
        Case("another_threshold", replace(ODD, threshold=0.9), full),
        Case("short_ranges", ODD, short),
        *(Case(f"{d.mask_hw[1]}_columns", d, heads) for d, heads in wide.items()),
        Case(
            "one_cell",
            DynamicMask((9, 9), 0, (8, 8), (1, 1), (2, 1), 0.0, slots=1),
            {
                "hm_logits": np.float32([[[2]]]),
                "peaks": np.float32([2]),
                "masks": np.float32([[[1], [2]]]),
                "regs": np.float32([[[0.5], [0.25]]]),
                "ranges": np.float32([[[0, 0], [1, 1]]]),
            },
        ),
    ]
