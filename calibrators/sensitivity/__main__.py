"""`python -m calibrators.sensitivity`: the command is in calibrators/sensitivity/cli.py."""

from __future__ import annotations

import sys

from trt_lane.console import guarded


def main() -> int:
    """Run it. PyTorch loads in here, where Ctrl-C is one line."""
    from calibrators.sensitivity.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(guarded("calibrators.sensitivity", main))
