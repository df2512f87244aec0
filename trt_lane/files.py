"""Writing whole files or none, and naming their content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trt_lane.errors import TrtLaneError


@contextmanager
def atomic_write(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when all of it was written.

    A full disk or a missing right is a TrtLaneError; on any error, Ctrl-C included, the old file
    stays and no part of the new one is left.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would keep others from reading results
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        reason = error.strerror or error
        raise TrtLaneError(
            f"cannot write {path}: {reason}; free space or choose another folder"
        ) from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def check_writable(path: Path | str) -> None:
    """Raise what writing the file would, before the hours of work that lead to it.

    The folder is made; an old file stays as it is.
    """
    path = Path(path)
    if path.is_dir():
        raise TrtLaneError(f"cannot write {path}: it is a folder; expected the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise TrtLaneError(f"cannot write {path}: {reason}; choose another folder") from None


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as file:
        file.write(data)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, indented; NaN and infinity are refused as JSON has neither."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path | str) -> Any:
    """Read JSON; a missing or damaged file is a TrtLaneError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrtLaneError(f"no file {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TrtLaneError(f"cannot read {path} as JSON: {error}") from None


def sha256_file(path: Path | str) -> str:
    """Hex digest of a file's content."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
