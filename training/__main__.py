"""`python -m training`: the command is in training/cli.py."""

from __future__ import annotations

import sys

from trt_lane.console import guarded


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit status. PyTorch loads in here, where Ctrl-C is one line."""

    def run() -> int:
        from training.cli import main

        return main(arguments)

    return guarded("training", run)


if __name__ == "__main__":
    sys.exit(main())
