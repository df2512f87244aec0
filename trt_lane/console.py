"""What all command lines share: one line for an error a user can mend, and its exit status."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from trt_lane.errors import TrtLaneError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
# What the machine refuses, wherever it happens: the program is not at fault.
_REFUSALS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.EFBIG),
    }
)
# OpenCV's and FFmpeg's own complaints about a file would stand beside our one line.
_SILENT_CODECS = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says a mistake in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        """Print one line and end with status 2."""
        line = " ".join(message.split())
        self.exit(TrtLaneError.exit_status, f"{self.prog}: error: {line}; see {self.prog} --help\n")


def guarded(program: str, main: Callable[[], int]) -> int:
    """Run a command line; a TrtLaneError becomes one line on stderr and its exit status.

    So does a full disk, a missing right or too little memory. SIGTERM ends it as Ctrl-C does: with
    everything unfinished taken away.
    """
    for name, value in _SILENT_CODECS.items():
        os.environ.setdefault(name, value)
    try:
        with _terminated_as_interrupted():
            status = main()
            sys.stdout.flush()
        return status
    except TrtLaneError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"{program}: error: {line}\n")
        return error.exit_status
    except _Terminated:
        sys.stderr.write(f"{program}: terminated; nothing half-written is left, run it again\n")
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{program}: interrupted; nothing half-written is left, run it again\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has left: nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        said = f" ({error})" if str(error) else ""
        sys.stderr.write(f"{program}: error: not enough memory{said}; end other programs\n")
        return TrtLaneError.exit_status
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        place = f" ({error.filename})" if error.filename else ""
        sys.stderr.write(
            f"{program}: error: {error.strerror}{place}; free space or choose another folder\n"
        )
        return TrtLaneError.exit_status


class _Terminated(KeyboardInterrupt):
    """SIGTERM; a KeyboardInterrupt so that whatever cleans up after Ctrl-C cleans up after it."""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # only the main thread may; another one is not the program
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
