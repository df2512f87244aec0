"""A program of sub-commands, each a module of one package: found, listed and run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from trt_lane.console import Parser, guarded


def run_program(
    prog: str,
    description: str,
    commands: ModuleType,
    argv: Sequence[str] | None = None,
    version: Callable[[], str] | None = None,
) -> int:
    """Run one command; returns the exit status (0 fine, 1 a failed check, 2 a user's mistake).

    Args:
        prog: as people type it.
        description: one line for the help.
        commands: package whose modules have NAME, HELP, add_arguments(parser) and run(args).
        argv: words behind the program's name; default: the process's.
        version: makes what --version prints, or None for no such option.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = prog.rpartition(" ")[2]
    return guarded(name, lambda: _run(prog, description, commands, words, version))


def _run(
    prog: str,
    description: str,
    commands: ModuleType,
    words: list[str],
    version: Callable[[], str] | None,
) -> int:
    parser = Parser(prog=prog, description=description)
    if version is not None:
        parser.add_argument("--version", action=_Version, version=version)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    runs = {}
    for command in _wanted(commands, words):
        subparser = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        runs[command.NAME] = command.run
    args = parser.parse_args(words)
    return runs[args.command](args)


class _Version(argparse.Action):
    """argparse's own version action, whose text is made only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, version: Callable[[], str]) -> None:
        what = "show program's version number and exit"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=what)
        self._text = version

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        print(self._text())
        parser.exit()


def _wanted(commands: ModuleType, words: list[str]) -> list[ModuleType]:
    """The one command that the words name (so that the others load nothing), else all."""
    names = sorted(m.name for m in iter_modules(commands.__path__) if not m.name.startswith("_"))
    wanted = words[0].replace("-", "_") if words else ""
    if wanted in names:
        names = [wanted]
    return [import_module(f"{commands.__name__}.{name}") for name in names]
