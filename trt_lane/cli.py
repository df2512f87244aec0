"""The command line `trt-lane`; its commands are the modules of trt_lane/commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import trt_lane
from trt_lane import commands
from trt_lane.command_line import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 fine, 2 a user's mistake)."""
    description = "Lane detectors as verified INT8 engines."
    return run_program("trt-lane", description, commands, argv, _version)


def _version() -> str:
    return f"trt-lane {trt_lane.__version__}"


if __name__ == "__main__":
    sys.exit(main())
