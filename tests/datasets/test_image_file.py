"""Image files, whole and damaged."""

from __future__ import annotations

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from made_images import write_image

from trt_lane.datasets.image_file import _complaints, read_frame
from trt_lane.errors import TrtLaneError


def chunk(kind, body):
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def flipped(data, share):
    at = int(len(data) * share)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


PNG = b"\x89PNG\r\n\x1a\n"
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0))
HUGE = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
FEW_PIXELS = chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
PNG_DAMAGE = {
    "half": lambda png: png[: len(png) // 2],
    "header": lambda png: png[:20],
    "last byte": lambda png: png[:-1],
    "flipped bit": lambda png: flipped(png, 0.5),
    "too few pixels": lambda png: PNG + HEADER + FEW_PIXELS,
    "ten billion pixels": lambda png: PNG + HUGE + FEW_PIXELS,
}


def photo(path, quality=90, **numbers):
    """Blurred noise, as busy as a road."""
    coarse = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    frame = cv2.resize(coarse, (320, 200), interpolation=cv2.INTER_CUBIC)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    for name, value in numbers.items():
        options += [getattr(cv2, f"IMWRITE_JPEG_{name}"), value]
    assert cv2.imwrite(str(path), frame, options)
    return path.read_bytes()


@pytest.mark.parametrize("damage", PNG_DAMAGE)
def test_damaged_png_is_refused_without_a_word_from_the_codec(tmp_path, capfd, damage):
    path = tmp_path / "x.png"
    write_image(path)
    path.write_bytes(PNG_DAMAGE[damage](path.read_bytes()))
    with pytest.raises(TrtLaneError, match=r"x\.png is (not an|a damaged) image"):
        read_frame(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_bytes_after_the_end_do_no_harm(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write_image(path)
    whole = read_frame(path)
    with open(path, "ab") as file:
        file.write(b"\xff\xd8 a camera's own notes, or a thumbnail")
    assert (read_frame(path) == whole).all()


@pytest.mark.parametrize("kind", [{}, {"PROGRESSIVE": 1}, {"RST_INTERVAL": 3}])
def test_a_jpeg_that_lacks_its_end_is_refused_wherever_it_was_cut(tmp_path, capfd, kind):
    path = tmp_path / "cut.jpg"
    data = photo(path, **kind)
    assert read_frame(path).shape == (200, 320, 3)
    for size in (2, 3, 30, 400, len(data) // 2, len(data) * 9 // 10, len(data) - 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(TrtLaneError, match=r"cut\.jpg is a damaged image .*cut off"):
            read_frame(path)
    assert capfd.readouterr().err == ""


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_jpeg(tmp_path):
    path = tmp_path / "x.jpg"
    data = photo(path)
    thumbnail = photo(tmp_path / "small.jpg", 10)[:60_000]
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path.write_bytes(with_thumbnail + data[2:])
    assert read_frame(path).shape == (200, 320, 3)
    path.write_bytes(with_thumbnail + data[2 : len(data) // 2])
    with pytest.raises(TrtLaneError, match="cut off"):
        read_frame(path)


def test_a_jpeg_of_which_pixels_are_lost_is_refused_without_a_word_from_the_codec(tmp_path, capfd):
    path = tmp_path / "x.jpg"
    data = photo(path)
    half = len(data) // 2
    path.write_bytes(data[:half] + data[half + 500 :])  # a block of the disk that was not written
    with pytest.raises(TrtLaneError, match="Corrupt JPEG data: premature end of data segment"):
        read_frame(path)
    assert capfd.readouterr().err == ""


def test_what_others_write_meanwhile_is_passed_on(capfd):
    with _complaints() as told:
        os.write(2, b"disk is hot\nCorrupt JPEG data: bad ICC marker\n")
        os.write(2, b"Corrupt JPEG data: bad Huffman code\n")
    assert told == ["Corrupt JPEG data: bad Huffman code"]
    assert "disk is hot" in capfd.readouterr().err


def test_a_program_without_stderr_reads_images(tmp_path, capfd):
    write_image(tmp_path / "x.png")
    kept = os.dup(2)
    os.close(2)
    try:
        assert read_frame(tmp_path / "x.png").shape == (200, 400, 3)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
