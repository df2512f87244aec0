import os
import shutil
from pathlib import Path

import pytest
from made_images import write_image

from trt_lane.datasets import base, open_dataset

KINDS = ("culane", "tusimple", "images", "video")


@pytest.fixture(params=["whole", "sampled"])
def read(request, monkeypatch):
    """Small sets are read wholly; for a limit of 0 they are sampled as large ones are."""
    if request.param == "sampled":
        monkeypatch.setattr(base, "WHOLE_BYTES", 0)


@pytest.fixture(params=KINDS)
def spec(request, tmp_path) -> str:
    made = {"culane": "culane_root", "tusimple": "tusimple_root", "video": "video_file"}
    if request.param in made:
        return f"{request.param}:{request.getfixturevalue(made[request.param])}"
    for number in range(3):
        write_image(tmp_path / "photos" / f"{number}.jpg", value=60 + number)
    return f"images:{tmp_path / 'photos'}"


def digest(spec: str) -> str:
    return open_dataset(spec).digest()


def test_a_copy_elsewhere_with_other_times_is_the_same_data(read, spec, tmp_path):
    kind, _, place = spec.partition(":")
    copied = tmp_path / "another" / "place" / Path(place).name
    if Path(place).is_dir():
        shutil.copytree(place, copied, copy_function=shutil.copyfile)
        files = [p for p in copied.rglob("*") if p.is_file()]
    else:
        copied.parent.mkdir(parents=True)
        files = [Path(shutil.copyfile(place, copied))]
    for number, file in enumerate(files):
        os.utime(file, (number, 1_000_000_000 + number))
    assert digest(f"{kind}:{copied}") == digest(spec)


def test_another_image_or_label_or_name_is_other_data(read, culane_root):
    spec = f"culane:{culane_root}"
    seen = [digest(spec)]
    write_image(culane_root / "a/1.jpg", value=91)
    seen.append(digest(spec))
    label = culane_root / "a/1.lines.txt"
    before = label.stat()
    label.write_text(label.read_text().replace("50 199", "51 199"))
    os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert label.stat().st_size == before.st_size
    seen.append(digest(spec))
    (culane_root / "a/2.jpg").rename(culane_root / "a/4.jpg")
    (culane_root / "a/2.lines.txt").rename(culane_root / "a/4.lines.txt")
    listed = culane_root / "list/test.txt"
    listed.write_text(listed.read_text().replace("a/2.jpg", "a/4.jpg"))
    seen.append(digest(spec))
    assert len(set(seen)) == len(seen)


@pytest.fixture
def long_file(tmp_path) -> Path:
    """Longer than what is read wholly; most of it is a hole, which takes no room."""
    path = tmp_path / "long" / "long.png"
    path.parent.mkdir()
    with open(path, "wb") as file:
        file.truncate(base.WHOLE_BYTES + 12345)
    return path


def changed_at(path: Path, place: int) -> str:
    with open(path, "r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([old[0] ^ 1]))
    return digest(f"images:{path.parent}")


def test_of_a_long_file_ends_middle_size_and_a_block_per_mib_are_seen(long_file):
    size = long_file.stat().st_size
    blocks = base.BLOCKS + (size >> 20)
    places = [i * (size - base.BLOCK_BYTES) // (blocks - 1) for i in (0, 1, blocks // 2)]
    seen = [digest(f"images:{long_file.parent}")]
    seen += [changed_at(long_file, place) for place in (*places, size - 1)]
    assert len(set(seen)) == len(seen)
    # What the docstring says cannot be told.
    assert changed_at(long_file, places[0] + base.BLOCK_BYTES) == seen[-1]
    with open(long_file, "ab") as file:
        file.write(b"\0")
    assert digest(f"images:{long_file.parent}") not in seen
    os.utime(long_file, (5, 5))
    last = digest(f"images:{long_file.parent}")
    long_file.rename(long_file.with_name("another.png"))
    assert digest(f"images:{long_file.parent}") != last


def test_labels_are_read_wholly_however_many_they_are(monkeypatch, culane_root):
    monkeypatch.setattr(base, "WHOLE_BYTES", 0)
    label = culane_root / "a/1.lines.txt"
    label.write_text("50 199 60 189 70 179\n" * 4000)
    spec = f"culane:{culane_root}"
    before = digest(spec)
    text = bytearray(label.read_bytes())
    text[base.BLOCK_BYTES + 21 * 10 : base.BLOCK_BYTES + 21 * 11] = b"51 199 60 189 70 179\n"
    label.write_bytes(text)
    assert digest(spec) != before


def test_a_frame_that_cannot_be_read_counts_as_missing(read, culane_root):
    seen = [digest(f"culane:{culane_root}")]
    (culane_root / "a/1.jpg").unlink()
    seen.append(digest(f"culane:{culane_root}"))
    (culane_root / "a/1.jpg").mkdir()
    assert seen[0] != seen[1] == digest(f"culane:{culane_root}")
