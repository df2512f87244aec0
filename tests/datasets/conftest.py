"""Small data sets in the official layouts, made of real JPEG files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_images import ROWS, write_image
from made_video import brightening, write_video


@pytest.fixture
def culane_root(tmp_path) -> Path:
    """Two labelled images (one without lanes), one unlabelled; categories normal and cross."""
    root = tmp_path / "culane"
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        write_image(root / name)
    (root / "a/1.lines.txt").write_text("50 199 60 189 70 179\n200.5 100 210 150 220 199\n")
    (root / "a/2.lines.txt").write_text("")
    splits = root / "list" / "test_split"
    splits.mkdir(parents=True)
    (root / "list" / "test.txt").write_text("/a/1.jpg\n/a/2.jpg\n/b/3.jpg\n")
    (splits / "test0_normal.txt").write_text("/a/1.jpg\n")
    (splits / "test7_cross.txt").write_text("/a/2.jpg\n")
    return root


@pytest.fixture
def tusimple_root(tmp_path) -> Path:
    """Two frames, one with lanes and one with none."""
    root = tmp_path / "tusimple"
    lanes = [[-2] * 2 + [150 + 3 * i for i in range(8)], [300 - 5 * i for i in range(10)]]
    records = []
    for number, value in enumerate((lanes, [])):
        name = f"clips/{number}/20.jpg"
        write_image(root / name)
        records.append({"raw_file": name, "lanes": value, "h_samples": ROWS})
    (root / "label_data.json").write_text("".join(json.dumps(r) + "\n" for r in records))
    return root


@pytest.fixture
def video_file(tmp_path) -> Path:
    """Ten frames of growing brightness."""
    return write_video(tmp_path / "clip.avi", brightening(10, 48, 64, step=20), 10)
