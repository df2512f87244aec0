"""The command line `trt-lane`: finds the commands in trt_lane/commands and runs one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from trt_lane import __version__, commands
from trt_lane.console import Parser, guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 fine, 2 a user's mistake)."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded("trt-lane", lambda: _run(words))


def _run(words: list[str]) -> int:
    parser = Parser(prog="trt-lane", description="Lane detectors as verified INT8 engines.")
    parser.add_argument("--version", action="version", version=f"trt-lane {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    runs = {}
    for command in _commands(words):
        subparser = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        runs[command.NAME] = command.run
    args = parser.parse_args(words)
    return runs[args.command](args)


def _commands(words: list[str]) -> list[ModuleType]:
    """The one command that the words name, else all of them, for help and for messages."""
    names = sorted(m.name for m in iter_modules(commands.__path__) if not m.name.startswith("_"))
    if words and words[0] in names:
        names = [words[0]]
    return [import_module(f"{commands.__name__}.{name}") for name in names]


if __name__ == "__main__":
    sys.exit(main())
