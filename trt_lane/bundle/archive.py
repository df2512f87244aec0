"""Bundles as files: written byte for byte the same each time, read without trusting any byte.

A bundle is a plain tar (`tar tf` reads it). Its bytes follow from the manifest and the files alone,
so the reader compares every header, every padding and the length with what they must be: a name
outside the folder, a link, a device, a second member of one name, a size that lies cannot be said.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trt_lane.bundle.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest
from trt_lane.bundle.tar_header import BLOCK, END, header, padding, size_in
from trt_lane.errors import TrtLaneError
from trt_lane.files import atomic_write

MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES = 4 << 20, 4096
_CHUNK = 1 << 20
# (bytes done, bytes in all)
ByteProgress = Callable[[int, int], None]


def write_bundle(
    path: Path, manifest: Manifest, signature: bytes | None, sources: Mapping[str, Path | bytes]
) -> None:
    """Write a bundle, atomically.

    Args:
        path: the archive.
        manifest: whose `files` names exactly the sources.
        signature: signature.json, or None.
        sources: the files by name.
    """
    if sources.keys() != manifest.files.keys():
        raise ValueError("the manifest names other files than there are")
    first = {MANIFEST: manifest.to_bytes(), **({} if signature is None else {SIGNATURE: signature})}
    with atomic_write(path) as file:
        for name, data in first.items():
            file.write(header(name, len(data)) + data + padding(len(data)))
        for name in sorted(sources):
            entry, sha = manifest.files[name], hashlib.sha256()
            file.write(header(name, entry.size))
            for chunk in _chunks(sources[name]):
                sha.update(chunk)
                file.write(chunk)
            if sha.hexdigest() != entry.sha256:
                raise TrtLaneError(f"{name} changed while the bundle was written; run it again")
            file.write(padding(entry.size))
        file.write(END)


def file_entry(source: Path | bytes) -> FileEntry:
    """Size and digest of a file."""
    size, sha = 0, hashlib.sha256()
    for chunk in _chunks(source):
        size += len(chunk)
        sha.update(chunk)
    return FileEntry(size, sha.hexdigest())


class BundleReader:
    """An open bundle whose manifest was read and whose length agrees with it.

    Attributes:
        path: the archive.
        manifest: of it.
        manifest_bytes: as they are signed.
        signature: signature.json, or None.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file
        self._length = os.fstat(file.fileno()).st_size
        self.manifest_bytes = self._small_member(MANIFEST, MAX_MANIFEST_BYTES)
        if self.manifest_bytes is None:
            self._refuse(f"it does not begin with {MANIFEST}")
        try:
            self.manifest = Manifest.from_bytes(self.manifest_bytes)
        except TrtLaneError as error:
            raise TrtLaneError(f"{path}: {error}") from None
        self.signature = self._small_member(SIGNATURE, MAX_SIGNATURE_BYTES)
        self._start = file.tell()
        files = self.manifest.files.values()
        expected = self._start + sum(BLOCK + f.size + -f.size % BLOCK for f in files) + len(END)
        if expected != self._length:
            self._refuse(f"it has {self._length} bytes, its manifest says {expected}")

    def verify(self, progress: ByteProgress | None = None) -> None:
        """Read every byte and compare it with the manifest; nothing is written.

        Raises:
            TrtLaneError: a byte differs.
        """
        self._walk(lambda name: None, progress)

    def unpack(self, folder: Path) -> None:
        """Write all files into an empty folder, digests compared again on the way to the disk."""

        def target(name: str) -> IO[bytes]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            return open(path, "xb")

        self._walk(target, None)
        (folder / MANIFEST).write_bytes(self.manifest_bytes)
        if self.signature is not None:
            (folder / SIGNATURE).write_bytes(self.signature)

    def _walk(
        self, target: Callable[[str], IO[bytes] | None], progress: ByteProgress | None
    ) -> None:
        self._file.seek(self._start)
        for name in sorted(self.manifest.files):
            entry = self.manifest.files[name]
            if self._file.read(BLOCK) != header(name, entry.size):
                self._refuse(f"{name} is not where its manifest says, or under another header")
            out = target(name)
            try:
                found = self._copy(entry.size, out, progress)
                if out is not None:
                    out.flush()
                    os.fsync(out.fileno())
            finally:
                if out is not None:
                    out.close()
            if found != entry.sha256:
                self._refuse(f"{name} is not the file of its manifest (sha256 {found[:12]}…)")
            if self._file.read(-entry.size % BLOCK) != padding(entry.size):
                self._refuse(f"there is something behind {name}")
        if self._file.read(len(END) + 1) != END:
            self._refuse("there is something at its end")

    def _copy(self, size: int, out: IO[bytes] | None, progress: ByteProgress | None) -> str:
        sha, left = hashlib.sha256(), size
        while left:
            chunk = self._file.read(min(left, _CHUNK))
            if not chunk:
                self._refuse("it ends too early")
            sha.update(chunk)
            if out is not None:
                out.write(chunk)
            left -= len(chunk)
            if progress is not None:
                progress(self._file.tell(), self._length)
        return sha.hexdigest()

    def _small_member(self, name: str, limit: int) -> bytes | None:
        """The next member when it has that name, else None with the file where it was."""
        start = self._file.tell()
        block = self._file.read(BLOCK)
        size = size_in(block)
        if size is None or size > limit or block != header(name, size):
            self._file.seek(start)
            return None
        data = self._file.read(size)
        if len(data) != size or self._file.read(-size % BLOCK) != padding(size):
            self._refuse(f"its {name} is cut off")
        return data

    def _refuse(self, reason: str) -> None:
        raise TrtLaneError(
            f"{self.path} is not a whole bundle: {reason}; copy it again, or make it again with "
            "`make bundle`"
        )


@contextmanager
def open_bundle(path: Path) -> Iterator[BundleReader]:
    """Open a bundle and read its manifest.

    Raises:
        TrtLaneError: there is none, or its manifest or its length is wrong.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - an error of the caller's block is not ours to name
    except OSError as error:
        raise TrtLaneError(f"cannot read the bundle {path}: {error.strerror}") from None
    with file:
        if not file.seekable():  # it is read twice: once before a byte of it is trusted
            raise TrtLaneError(f"the bundle {path} is a pipe; write it to a file first")
        yield BundleReader(path, file)


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
