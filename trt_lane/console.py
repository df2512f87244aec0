"""What all command lines share: one line for an error a user can mend, and its exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from trt_lane.errors import TrtLaneError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def guarded(program: str, main: Callable[[], int]) -> int:
    """Run a command line; a TrtLaneError becomes one line on stderr and its exit status."""
    try:
        status = main()
        sys.stdout.flush()
        return status
    except TrtLaneError as error:
        line = " ".join(str(error).split())
        sys.stderr.write(f"{program}: error: {line}\n")
        return error.exit_status
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{program}: interrupted; nothing half-written is left, run it again\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has left: nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
