"""The one tar header that a file of a bundle may have: plain file, no times, no owner."""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)


def header(name: str, size: int) -> bytes:
    """The 512 bytes in front of a file, as POSIX's ustar format has them.

    Args:
        name: ASCII, at most 100 characters.
        size: in bytes, less than 8 GiB.
    """
    fields = (
        (name, 100), ("0000644", 8), ("0000000", 8), ("0000000", 8), (f"{size:011o}", 12),
        ("00000000000", 12), (" " * 8, 8), ("0", 1), ("", 100), ("ustar\x0000", 8), ("", 247),
    )  # fmt: skip
    block = b"".join(text.encode("ascii").ljust(width, b"\0") for text, width in fields)
    checksum = f"{sum(block):06o}\0 ".encode("ascii")
    return block[:148] + checksum + block[156:]


def size_in(block: bytes) -> int | None:
    """The size that a header claims, None when it is no number."""
    digits = block[124:135]
    return int(digits, 8) if len(digits) == 11 and set(digits) <= set(b"01234567") else None


def padding(size: int) -> bytes:
    """What follows a file up to the next block."""
    return bytes(-size % BLOCK)
