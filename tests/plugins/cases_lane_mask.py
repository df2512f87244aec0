"""Masks: TwinLiteNet's size once, small odd ones with lines that fork, meet, touch and tie."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from cases import Case

from trt_lane.decoders.lane_mask import LaneMask
from trt_lane.plugin_library import LANES_DROPPED

BDD = LaneMask(frame_hw=(720, 1280), input_hw=(360, 640))
# 27 rows are three blocks and a part of one; 75 columns end inside a word of the ballot.
ODD = LaneMask((54, 150), (27, 75), min_area_px=12, min_rows=5, row_step=2, max_lanes=6)
Line = tuple[tuple[int, int], tuple[int, int]]


def drawn(decoder: LaneMask, *lines: Line, thickness: int = 2) -> np.ndarray:
    """A mask of line segments, each two (x, y) pixels."""
    mask = np.zeros(decoder.input_hw, np.uint8)
    for begin, end in lines:
        cv2.line(mask, begin, end, 1, thickness)
    return mask.astype(bool)


def heads(mask: np.ndarray, seed: int = 0, noise: float = 0.3) -> dict[str, np.ndarray]:
    """Noisy logits of a mask."""
    rng = np.random.default_rng(seed)
    lane = np.stack([np.where(mask, -1.5, 1.5), np.where(mask, 1.5, -1.5)])
    lane += rng.normal(0, noise, lane.shape)
    drivable = rng.normal(0, 1, lane.shape)
    return {"drivable": drivable.astype(np.float32), "lane": lane.astype(np.float32)}


def cases() -> list[Case]:
    """See cases.py."""
    columns = [((6 + 12 * i, 26), (10 + 11 * i, 3 + i)) for i in range(6)]
    full, typical = drawn(ODD, *columns), drawn(ODD, *columns[1:4])
    upright = drawn(ODD, *(((4 + 9 * i, 24), (4 + 9 * i, 6)) for i in range(8)), thickness=1)
    meeting = drawn(ODD, ((5, 26), (40, 2)), ((70, 26), (40, 2)), ((38, 26), (40, 2)))
    forking = drawn(ODD, ((36, 26), (36, 14)), ((36, 14), (15, 2)), ((36, 14), (60, 2)))
    tie = np.zeros((2, 27, 75), np.float32)
    tie[1, :, 20:23] = 1e-9  # lane by argmax, though its float32 probability is one half
    edge = np.zeros((27, 75), bool)
    edge[:, [0, 1, 73, 74]] = True
    wide = np.zeros((27, 96), bool)
    wide[:, 90:] = wide[:, 31:33] = wide[3:20, 60:66] = True
    broken = {}
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken[name] = heads(full)
        for i, value in enumerate(values):
            broken[name]["lane"][i, 12 + i, :40] = value
            broken[name]["lane"][1, :, 30 + 20 * i] = value
            broken[name]["drivable"][:, i] = value
    sure = {k: v * np.float32(1e38) for k, v in heads(full).items()}
    scattered = np.random.default_rng(5).random((27, 75)) < 0.45
    # Every other column of every other row: most runs that a row can have, no two of them touch.
    stitches = np.zeros((27, 75), bool)
    stitches[::2, ::2] = True
    sieve = ~stitches
    sieve[1::4] = stitches[1::4] = False
    loose = replace(ODD, min_area_px=0, min_rows=1)
    return [
        Case("full_size_bdd100k", BDD, heads(_road(BDD), 1)),
        Case("typical", ODD, heads(typical)),
        Case("empty", ODD, heads(np.zeros_like(full))),
        Case("one", ODD, heads(drawn(ODD, columns[2]))),
        Case("tie_at_threshold", ODD, {"drivable": tie, "lane": tie}),
        Case("all_background", ODD, {"drivable": tie, "lane": np.zeros_like(tie)}),
        Case("image_edge", ODD, heads(edge)),
        Case("last_word_full", replace(ODD, input_hw=(27, 96)), heads(wide)),
        *(Case(name, ODD, given) for name, given in broken.items()),
        Case("sure", ODD, sure),
        Case("every_slot_full", ODD, heads(full)),
        Case("one_more_than_full", ODD, heads(full), {"slots": 5}, LANES_DROPPED),
        Case("more_slots_than_lanes", ODD, heads(typical), {"slots": 9}),
        Case("equal_lines_beyond_the_limit", ODD, heads(upright)),
        Case("lines_that_meet", ODD, heads(meeting)),
        Case("line_that_forks", ODD, heads(forking)),
        Case("scattered", loose, heads(scattered, noise=0)),
        Case("scattered_and_strict", ODD, heads(scattered, noise=0)),
        Case("most_runs", loose, heads(stitches, noise=0)),
        Case("sieve", loose, heads(sieve, noise=0)),
        Case("all_lane", ODD, heads(np.ones_like(full))),
        Case("another_threshold", replace(ODD, threshold=0.9), heads(full, noise=1.5)),
        Case("every_row", replace(ODD, row_step=1, max_lanes=1), heads(full)),
        Case("one_pixel", LaneMask((2, 2), (1, 1), 0.5, 0, 1, 1, 1), heads(np.ones((1, 1), bool))),
    ]


def _road(decoder: LaneMask) -> np.ndarray:
    """Five lanes up to the horizon, one of them dashed."""
    height, width = decoder.input_hw
    ends = ((x * width // 8, height - 20) for x in (0, 2, 4, 6, 8))
    mask = drawn(decoder, *((end, (width // 2, height // 3)) for end in ends), thickness=5)
    mask[: height // 2 - 30] = False
    mask[height * 3 // 4 : height * 3 // 4 + 12, width // 2 - 20 : width // 2 + 20] = False
    return mask
