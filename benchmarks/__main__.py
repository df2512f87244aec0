"""`python -m benchmarks COMMAND`: finds the commands in benchmarks/commands and runs one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from benchmarks import commands
from trt_lane.console import Parser, guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (0 fine, 1 a failed check, 2 a user's mistake)."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded("benchmarks", lambda: _run(words))


def _run(words: list[str]) -> int:
    parser = Parser(prog="python -m benchmarks", description="What each method is worth, measured.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    runs = {}
    for command in _commands(words):
        subparser = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        runs[command.NAME] = command.run
    args = parser.parse_args(words)
    return runs[args.command](args)


def _commands(words: list[str]) -> list[ModuleType]:
    """The one command that the words name (so that others load nothing), else all."""
    names = sorted(m.name for m in iter_modules(commands.__path__) if not m.name.startswith("_"))
    wanted = words[0].replace("-", "_") if words else ""
    if wanted in names:
        names = [wanted]
    return [import_module(f"{commands.__name__}.{name}") for name in names]


if __name__ == "__main__":
    sys.exit(main())
