"""`python -m calibrators.budget`: the command is in calibrators/budget/cli.py."""

from __future__ import annotations

import sys

from trt_lane.console import guarded


def main() -> int:
    """Run it. PyTorch loads in here, where Ctrl-C is one line."""
    from calibrators.budget.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(guarded("calibrators.budget", main))
