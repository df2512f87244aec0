"""`trt-lane rollback`: the engine before the current one becomes current again."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "rollback"
HELP = "make the engine that was current before the current one again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("--root", type=Path, help="where engines live (default: /var/lib/trt_lane)")


def run(args: argparse.Namespace) -> int:
    """Verify it, switch, say so."""
    from trt_lane.installing.facts import check_engine
    from trt_lane.installing.store import Store

    store = Store(args.root)
    with store.locked():
        state = store.rollback(check_engine)
    print(f"{state.current} is current in {store.root}, {state.previous} the one before it")
    return 0
