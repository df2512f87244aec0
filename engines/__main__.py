"""`python -m engines COMMAND`; its commands are the modules of engines/commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engines import commands
from trt_lane.command_line import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 fine, 1 a failed check, 2 a user's mistake)."""
    description = "From a calibrated network to a proven INT8 engine."
    return run_program("python -m engines", description, commands, argv)


if __name__ == "__main__":
    sys.exit(main())
