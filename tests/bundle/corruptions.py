"""Every way in which a bundle can be wrong, drawn at random: one corrupted copy after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from trt_lane.bundle.manifest import MANIFEST, SIGNATURE
from trt_lane.bundle.tar_header import BLOCK, END, header
from trt_lane.sealed_json import seal

Rng = np.random.Generator
NAMES = (
    "../escaped", "/etc/escaped", "golden/../../escaped", "a/../b", ".hidden", "-rf", "a b", "a\nb",
    "manifest.json", "", "x" * 101, "a//b", "a/", "con\x00", "C:\\x", "$(id)", "é",
)  # fmt: skip
SIZES = (-1, 0, 1, 511, 513, 1 << 33, 10**30, 1.5, True, None, "5")


@dataclass(frozen=True)
class Member:
    """Where a member lies: header at `start`, content of `size` bytes behind it."""

    name: str
    start: int
    size: int


def members(data: bytes) -> list[Member]:
    found, at = [], 0
    while data[at : at + BLOCK] != bytes(BLOCK):
        name = data[at : at + 100].rstrip(b"\0").decode()
        size = int(data[at + 124 : at + 135], 8)
        found.append(Member(name, at, size))
        at += BLOCK + size + -size % BLOCK
    return found


def corruptions(data: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` corrupted copies, each class of corruption in turn, with the class's name."""
    rng = np.random.default_rng(seed)
    parts = members(data)
    kinds = list(_KINDS.items())
    made = 0
    while made < count:
        name, kind = kinds[made % len(kinds)]
        bad = kind(rng, data, parts)
        if bad != data:  # a drawn byte may be the one that was there
            yield name, bad
            made += 1


def _flip(rng: Rng, data: bytes, start: int, stop: int) -> bytes:
    if stop <= start:
        return data
    at = int(rng.integers(start, stop))
    changed = data[at] ^ int(rng.integers(1, 256))
    return data[:at] + bytes([changed]) + data[at + 1 :]


def _any(rng: Rng, parts: list[Member]) -> Member:
    return parts[int(rng.integers(len(parts)))]


def _flip_header(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    part = _any(rng, parts)
    return _flip(rng, data, part.start, part.start + BLOCK)


def _flip_content(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    part = _any(rng, parts)
    return _flip(rng, data, part.start + BLOCK, part.start + BLOCK + part.size)


def _flip_padding(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    part = _any(rng, parts)
    end = part.start + BLOCK + part.size
    return _flip(rng, data, end, end + -part.size % BLOCK)


def _flip_manifest(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    return _flip(rng, data, BLOCK, BLOCK + parts[0].size)


def _flip_end(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    return _flip(rng, data, len(data) - len(END), len(data))


def _flip_anywhere(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    return _flip(rng, data, 0, len(data))


def _truncate(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _truncate_at_block(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    return data[: BLOCK * int(rng.integers(len(data) // BLOCK))]


def _extend(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    return data + bytes(rng.integers(0, 2, int(rng.integers(1, 2000)), np.uint8))


def _cut_out(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 4096))
    return data[:start] + data[start + length :]


def _put_header(data: bytes, part: Member, block: bytes) -> bytes:
    return data[: part.start] + block + data[part.start + BLOCK :]


def _sealed_header(data: bytes, part: Member, at: int, new: bytes) -> bytes:
    """A header with other bytes and a checksum that agrees with them."""
    block = bytearray(data[part.start : part.start + BLOCK])
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return _put_header(data, part, bytes(block))


def _rename(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    name = NAMES[int(rng.integers(len(NAMES)))].encode()[:100]
    return _sealed_header(data, _any(rng, parts), 0, name.ljust(100, b"\0"))


def _lie_in_header(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    part = _any(rng, parts)
    size = max(0, part.size + int(rng.integers(-600, 600)))
    return _put_header(data, part, header(part.name, size))


def _link(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    kind = b"123456xgLK"[int(rng.integers(10))]
    linked = _sealed_header(data, _any(rng, parts), 156, bytes([kind]))
    part = _any(rng, parts)
    return _sealed_header(linked, part, 157, b"/etc/passwd") if rng.integers(2) else linked


def _duplicate(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    part, where = _any(rng, parts), _any(rng, parts)
    whole = data[part.start : part.start + BLOCK + part.size + -part.size % BLOCK]
    return data[: where.start] + whole + data[where.start :]


def _remove(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    part = _any(rng, parts)
    return data[: part.start] + data[part.start + BLOCK + part.size + -part.size % BLOCK :]


def _swap(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    i = int(rng.integers(len(parts) - 1))
    ends = [p.start for p in parts] + [len(data) - len(END)]
    a, b, c = ends[i : i + 3]
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _with_manifest(data: bytes, parts: list[Member], change: Callable[[dict], object]) -> bytes:
    """A manifest with other values whose own digest agrees."""
    first = parts[0]
    values = json.loads(data[BLOCK : BLOCK + first.size])
    values.pop("digest")
    change(values)
    text = seal(values)
    rest = data[first.start + BLOCK + first.size + -first.size % BLOCK :]
    return header(first.name, len(text)) + text + bytes(-len(text) % BLOCK) + rest


def _lie_in_manifest(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    def change(values: dict) -> None:
        entry = values["files"][_draw(rng, values["files"])]
        if rng.integers(2):
            entry["size"] = SIZES[int(rng.integers(len(SIZES)))]
        else:
            entry["size"] += int(rng.integers(1, 600))

    return _with_manifest(data, parts, change)


def _other_digest(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    def change(values: dict) -> None:
        entry = values["files"][_draw(rng, values["files"])]
        entry["sha256"] = bytes(rng.integers(0, 256, 32, np.uint8)).hex()

    return _with_manifest(data, parts, change)


def _rename_in_both(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    """A name that is no plain one, in manifest and header alike."""
    name = NAMES[int(rng.integers(len(NAMES)))]
    files = [part for part in parts if part.name not in (MANIFEST, SIGNATURE)]
    part = _any(rng, files)
    try:
        block = name.encode("ascii")[:100].ljust(100, b"\0")
    except UnicodeEncodeError:
        block = name.encode()[:100].ljust(100, b"\0")
    renamed = _sealed_header(data, part, 0, block)

    def change(values: dict) -> None:
        values["files"][name] = values["files"].pop(part.name)

    return _with_manifest(renamed, parts, change)


def _wrong_value(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    """Something in the manifest that cannot be, under a digest that agrees."""
    wrong = (None, "x", [], -1, {"x": 1}, 1e300, "../x", [[[]]])

    def change(values: dict) -> None:
        keys = ("files", "recipe", "image", "heads", "decoder", "digests", "graph", "needs",
                "schema", "input_name", "model")  # fmt: skip
        key = keys[int(rng.integers(len(keys)))]
        value = wrong[int(rng.integers(len(wrong)))]
        text_is_fine = key in ("input_name", "model") and isinstance(value, str)
        values[key] = None if text_is_fine else value

    return _with_manifest(data, parts, change)


def _missing_key(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    def change(values: dict) -> None:
        del values[_draw(rng, values)]

    return _with_manifest(data, parts, change)


def _other_file(rng: Rng, data: bytes, parts: list[Member]) -> bytes:
    """Not a bundle at all."""
    kinds = (b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x7fELF", bytes(4096), b"\xff" * 4096)
    return kinds[int(rng.integers(len(kinds)))] + bytes(rng.integers(0, 256, 64, np.uint8))


def _draw(rng: Rng, values: dict) -> str:
    return sorted(values)[int(rng.integers(len(values)))]


_KINDS: dict[str, Callable[[Rng, bytes, list[Member]], bytes]] = {
    kind.__name__.strip("_"): kind
    for kind in (
        _flip_header, _flip_content, _flip_padding, _flip_manifest, _flip_end, _flip_anywhere,
        _truncate, _truncate_at_block, _extend, _cut_out, _rename, _lie_in_header, _link,
        _duplicate, _remove, _swap, _lie_in_manifest, _other_digest, _rename_in_both, _wrong_value,
        _missing_key, _other_file,
    )
}  # fmt: skip
