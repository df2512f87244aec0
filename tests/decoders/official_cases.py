"""Made-up heads with the lanes that official post-processing gives for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

Case = tuple[dict[str, np.ndarray], list[dict]]


def official_cases(shared: Path, name: str) -> list[Case]:
    """(heads, lanes) of every case of shared/data/decoder_cases/<name>, as the files have them."""
    folder = shared / "data" / "decoder_cases"
    expected = json.loads((folder / f"{name}.json").read_text())["cases"]
    with np.load(folder / f"{name}.npz") as arrays:
        given: list[dict[str, np.ndarray]] = [{} for _ in expected]
        for key in arrays.files:
            number, _, head = key.partition("/")
            given[int(number)][head] = arrays[key]
    return list(zip(given, expected, strict=True))
