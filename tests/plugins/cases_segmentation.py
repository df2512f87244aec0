"""Heads for segmentation: CULane's sizes once, small maps of odd sizes that leave warps empty."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import Case

from trt_lane.decoders.segmentation import Segmentation
from trt_lane.plugin_library import LANES_DROPPED

CULANE = Segmentation(frame_hw=(590, 1640), input_hw=(288, 800))
# The map is brought from 9 x 18 to 37 x 75; three chunks of points, rows above the frame.
ODD = Segmentation(
    frame_hw=(100, 200), input_hw=(37, 75), lanes=5, max_lanes=5, gap_px=3, points=70, blur_px=5
)
ODD_MAP = (9, 18)
# More than one block of columns, and a map of the input's size.
WIDE = Segmentation((60, 400), (30, 200), lanes=2, gap_px=7, points=8, blur_px=3)


def with_lanes(
    decoder: Segmentation, map_hw: tuple[int, int], lanes: range, seed: int = 0, noise: float = 0.5
) -> dict[str, np.ndarray]:
    """Noisy logits with straight lanes; the other lanes do not exist."""
    rng = np.random.default_rng(seed)
    height, width = map_hw
    out = rng.normal(0, noise, (decoder.lanes + 1, height, width)).astype(np.float32)
    out[0] += 5
    existence = rng.normal(-4, 0.5, decoder.lanes).astype(np.float32)
    column = np.arange(width)
    for lane in lanes:
        at = np.linspace(*rng.uniform(1, width - 2, 2), height)[:, None]
        apart = (column - at) / max(1.3, width / 100)
        out[lane + 1] += 10 * np.exp(-(apart**2)).astype(np.float32)
        existence[lane] += 7
    return {"out": out, "lane": existence}


def sized(decoder: Segmentation, map_hw: tuple[int, int], name: str, **given: object) -> Case:
    """A case with the field of the map's sizes, which a plugin without heads cannot know."""
    heads, overflow = given.pop("heads"), given.pop("overflow", 0)
    return Case(name, decoder, heads, {"map_hw": map_hw, **given}, overflow)


def cases() -> list[Case]:
    """See cases.py."""

    def odd(name: str, heads: dict, decoder: Segmentation = ODD, **given: object) -> Case:
        return sized(decoder, ODD_MAP, name, heads=heads, **given)

    full = with_lanes(ODD, ODD_MAP, range(5), seed=1)
    wide = with_lanes(WIDE, WIDE.input_hw, range(2), seed=2)
    # A plateau of equals: the first column. Existence of exactly one half: no lane.
    plateau = {"out": np.full((3, 30, 200), -30, np.float32), "lane": np.float32([3, 0])}
    plateau["out"][1, :, 100:150] = 30
    plateau["out"][0, :, :100] = plateau["out"][0, :, 150:] = 30
    # Everything equally likely, one third each: above the threshold, in column 0 of the frame.
    level = {"out": np.zeros((3, 30, 200), np.float32), "lane": np.float32([3, 3])}
    third = float(np.float32(1) / np.float32(3))
    edge = {"out": np.zeros((3, 30, 200), np.float32), "lane": np.float32([3, 3])}
    edge["out"][0] = 8
    edge["out"][1, :, 0] = edge["out"][2, :, -1] = 40
    few = with_lanes(ODD, ODD_MAP, range(2), seed=3, noise=0)
    few["out"][1:, 1:] = -20  # the top rows alone hold the lanes
    broken = {}
    for name, values in (("nan_heads", [np.nan]), ("infinite_heads", [np.inf, -np.inf])):
        broken[name] = {k: v.copy() for k, v in full.items()}
        for i, value in enumerate(values):
            broken[name]["out"][i, 2 + i, ::3] = value
            broken[name]["lane"][i] = value
    certain = {"out": full["out"], "lane": np.float32([3, 2, 1, 2, 3])}
    huge = {k: v * np.float32(1e37) for k, v in full.items()}
    return [
        sized(
            CULANE,
            CULANE.input_hw,
            "full_size_culane",
            heads=with_lanes(CULANE, CULANE.input_hw, range(4), seed=7),
        ),
        odd("typical", with_lanes(ODD, ODD_MAP, range(1, 4))),
        odd("empty", with_lanes(ODD, ODD_MAP, range(0))),
        odd("one", with_lanes(ODD, ODD_MAP, range(2, 3))),
        sized(WIDE, (30, 200), "tie_at_threshold", heads=plateau),
        sized(replace(WIDE, threshold=third), (30, 200), "level_at_threshold", heads=level),
        sized(replace(WIDE, threshold=0.33), (30, 200), "level_in_column_0", heads=level),
        sized(WIDE, (30, 200), "image_edge", heads=edge),
        *(odd(name, heads) for name, heads in broken.items()),
        odd("huge_logits", huge),
        odd("every_slot_full", full),
        odd("one_more_than_full", full, slots=4, overflow=LANES_DROPPED),
        odd("more_slots_than_lanes", full, slots=7),
        odd("least_certain_go", certain, replace(ODD, max_lanes=4)),
        odd("tied_for_the_last_place", certain, replace(ODD, max_lanes=3)),
        odd("no_limit", certain, replace(ODD, max_lanes=0)),
        odd("too_few_points", few),
        sized(WIDE, (30, 200), "map_of_the_input", heads=wide),
        sized(replace(WIDE, blur_px=1), (30, 200), "no_blur", heads=wide),
        sized(replace(WIDE, blur_px=65), (30, 200), "widest_blur", heads=wide),
        sized(
            replace(WIDE, first_gap=2, lift_px=0),
            (15, 99),
            "first_gap",
            heads=with_lanes(WIDE, (15, 99), range(2), seed=5),
        ),
        sized(
            Segmentation((3, 4), (1, 1), 1, 1, 1, 2, 0, 1, blur_px=3),
            (1, 1),
            "one_pixel",
            heads={"out": np.float32([[[0]], [[9]]]), "lane": np.float32([1])},
        ),
    ]


def shared_cases(shared: Path) -> list[Case]:
    """The official heads."""
    folder = shared / "data" / "decoder_cases"
    count = len(json.loads((folder / "segmentation.json").read_text(encoding="utf-8"))["cases"])
    with np.load(folder / "segmentation.npz") as arrays:
        given: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
        for key in arrays.files:
            number, _, head = key.partition("/")
            given[int(number)][head] = arrays[key][0]
    return [
        Case(str(i), CULANE, heads, {"map_hw": heads["out"].shape[1:]})
        for i, heads in enumerate(given)
    ]
