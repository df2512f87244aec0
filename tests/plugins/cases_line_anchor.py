"""Heads for line anchors: LaneATT's and CLRNet's sizes, and small ones for edges of the NMS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import Case

from trt_lane.decoders.line_anchor import LineAnchor
from trt_lane.plugin_library import LANES_DROPPED

LANEATT = LineAnchor((590, 1640), 1000, 72, 3, x_full=640, x_px=1, length_strips=1)
CLRNET = LineAnchor(
    (590, 1640),
    192,
    72,
    4,
    x_full=1,
    x_px=799,
    length_strips=71,
    crop_top=270,
    threshold=0.4,
    inclusive=True,
)
# Eleven offsets, one every 10 px of a 100 px frame; 37 lines are a warp and five threads.
SMALL = LineAnchor((100, 400), 37, 11, 3, x_full=200, x_px=1, length_strips=1, distance_px=20)
MIDDLE = replace(SMALL, offsets=72, max_lanes=9)  # more offsets than a warp takes at a time
# Columns are counted in a byte by the NMS: offsets beyond 250 start over.
TALL = replace(SMALL, anchors=64, offsets=300, frame_hw=(600, 400), max_lanes=3)
ROADS = ((300, 120, 640), (330, 560, 640), (270, -60, 640), (360, 760, 640))


def around_lanes(decoder: LineAnchor, share: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Heads with a share of the lines near one of four lanes, which are sure; the rest is not."""
    rng = np.random.default_rng(seed)
    count, size = decoder.anchors, decoder.offsets
    lane = rng.integers(0, len(ROADS), count)
    top, bottom, width = np.array(ROADS)[lane].T
    up = np.linspace(0, 1, size)
    x = (bottom + (top - bottom) * up[:, None]) / width * decoder.x_full
    x = x + rng.normal(0, 0.012, count) * decoder.x_full
    near = rng.random(count) < share
    start = rng.uniform(0, 0.2, count)
    length = rng.uniform(0.5, 0.8, count) * (size - 1) / decoder.length_strips
    extent = np.zeros((count, decoder.extent_channels))
    extent[:, 0], extent[:, -1] = start, length
    margin = np.where(near, rng.uniform(0.5, 6, count), rng.uniform(-8, -2, count))
    return {
        "cls": np.float32(np.stack([-margin / 2, margin / 2], axis=1)),
        "extent": extent.astype(np.float32),
        "xs": np.ascontiguousarray(x.T, np.float32),
    }


def lines(
    *columns: float,
    decoder: LineAnchor = SMALL,
    logits: tuple[float, ...] = (),
    starts: tuple[float, ...] = (),
    lengths: tuple[float, ...] = (),
) -> dict[str, np.ndarray]:
    """Lines straight up at these columns, the first the surest; the decoder's others are no lanes.

    Args:
        columns: x of the head, in the input's pixels.
        decoder: whose heads.
        logits: of "lane", instead.
        starts, lengths: in strips, where not from the bottom to the top.
    """
    count, size, given = decoder.anchors, decoder.offsets, len(columns)
    cls = np.zeros((count, 2), np.float32)
    cls[:, 1] = -9
    cls[:given, 1] = logits or [8 - 0.25 * i for i in range(given)]
    extent = np.zeros((count, decoder.extent_channels), np.float32)
    extent[:, -1] = size / decoder.length_strips
    extent[: len(starts), 0] = np.float32(starts) / (size - 1)
    extent[: len(lengths), -1] = lengths
    xs = np.zeros((count, size), np.float32)
    xs[:given] = np.float32(columns)[:, None]
    return {"cls": cls, "extent": extent, "xs": xs}


def cases() -> list[Case]:
    """See cases.py."""
    rng = np.random.default_rng(3)
    full = lines(20, 60, 100, 140)
    inclusive = replace(SMALL, inclusive=True)
    edge = lines(0, 200, 100, 60, starts=(0, 0, 6, 3))
    edge["xs"][1, 7:] = np.nextafter(np.float32(200), np.float32(300))
    edge["xs"][2] = [50, 60, -1, 50, 60, 70, 80, 90, 210, -5, 90]
    edge["xs"][3, :3] = [0, 200, -0.0]
    clrnet = around_lanes(CLRNET, 0.3, seed=1)
    many = replace(SMALL, max_lanes=37, distance_px=1.5)
    spread = lines(*rng.permutation(37) * 5.0, decoder=many, logits=tuple(rng.normal(3, 1, 37)))
    spread["xs"] += rng.normal(0, 1, spread["xs"].shape).astype(np.float32)
    huge = {k: np.full_like(v, 3e38) for k, v in lines().items()}
    huge["cls"][:, 0] = -3e38
    huge["xs"][:] = 50
    far_below = around_lanes(MIDDLE, 0.9, seed=4)
    far_below["extent"][::2, 0] = -1e30
    far_below["extent"][::4, -1] = 3e38  # and up to far above
    far_below["cls"][0] = -9, 9
    low = {**huge, "extent": -huge["extent"], "xs": huge["xs"] * np.float32(6e36)}
    return [
        Case("typical", LANEATT, around_lanes(LANEATT, 0.06)),
        Case("full_size_clrnet", CLRNET, clrnet),
        # In half precision, these many lines' margins and extents are coarse, and many are equal.
        Case("full_size_all_likely", LANEATT, around_lanes(LANEATT, 1.0, seed=2)),
        Case("full_size_clrnet_all_likely", CLRNET, around_lanes(CLRNET, 1.0, seed=6)),
        Case("empty", CLRNET, lines(decoder=CLRNET)),
        Case("one", SMALL, lines(50)),
        Case("tie_at_threshold", SMALL, lines(50, 120, logits=(0, 0.01))),
        Case("tie_at_inclusive_threshold", inclusive, lines(50, 120, logits=(0, 0.01))),
        Case("at_the_distance", SMALL, lines(50, 69.5, 70, 120, 140, 159)),
        Case("equal_scores", SMALL, lines(50, 55, 60, 62, 110, logits=(30, 40, 40, 35, 99))),
        Case("image_edge", SMALL, edge),
        *_broken(around_lanes(LANEATT, 0.06)),
        Case("every_slot_full", SMALL, full),
        Case("one_more_than_full", SMALL, full, {"slots": 3}, LANES_DROPPED),
        Case("more_slots_than_lanes", SMALL, full, {"slots": 6}),
        Case("more_lanes_than_the_nms_keeps", SMALL, lines(20, 60, 100, 140, 180)),
        Case("every_line_a_lane", many, spread),
        Case("one_line", replace(SMALL, anchors=1), lines(50, decoder=replace(SMALL, anchors=1))),
        Case("negative_lengths", SMALL, lines(9, 50, 90, 130, lengths=(-2, -11, -30, -1e30))),
        Case("few_points", SMALL, lines(9, 50, 90, 130, lengths=(0, 1, 2, 2.5))),
        Case("apart_along_the_lane", SMALL, lines(50, 52, starts=(0, 6), lengths=(5, 5))),
        Case("huge_numbers", replace(SMALL, length_strips=71), huge),
        Case("huge_numbers_below", SMALL, low),
        Case("huge_numbers_below_beside_others", MIDDLE, far_below),
        *_odd_extents(),
    ]


def _broken(heads: dict[str, np.ndarray]) -> list[Case]:
    """NaN and infinities in every head."""
    found = []
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken = {key: head.copy() for key, head in heads.items()}
        for i, value in enumerate(values):
            broken["cls"][i::7, i] = value
            broken["extent"][i + 2 :: 7, i + 1] = value
            broken["xs"][i + 4 :: 7, 71 * i] = value
        found.append(Case(name, LANEATT, broken))
    return found


def _odd_extents() -> list[Case]:
    """Lines that start below or above the image: the NMS then reads other columns than their x."""
    found = []
    for name, decoder in (("odd_extents", replace(SMALL, max_lanes=9)), ("byte_columns", TALL)):
        rng = np.random.default_rng(5)
        count = decoder.anchors
        heads = lines(*rng.normal(50, 25, count), decoder=decoder, logits=(3,) * count)
        heads["cls"] += rng.normal(0, 1, heads["cls"].shape).astype(np.float32)
        heads["xs"] += rng.normal(0, 3, heads["xs"].shape).astype(np.float32)
        heads["extent"][:, 0] = rng.uniform(-1.2, 1.1, count)
        size = decoder.offsets
        heads["extent"][:, 1] = rng.normal(0, 300, count)
        heads["extent"][:, 2] = rng.choice([-3, 0, 1, 2.5, 0.6 * size, size, 2 * size], count)
        found.append(Case(name, decoder, heads))
    return found


def shared_cases(shared: Path) -> list[Case]:
    """LaneATT's and CLRNet's official heads."""
    found = []
    for name, decoder in (("laneatt", LANEATT), ("clrnet", CLRNET)):
        with np.load(shared / "data" / "decoder_cases" / f"{name}.npz") as arrays:
            for key in arrays.files:
                cls, extent, xs = np.split(arrays[key], [2, 2 + decoder.extent_channels], axis=1)
                heads = {"cls": cls, "extent": extent, "xs": xs}
                found.append(Case(f"{name} {key}", decoder, heads))
    return found
