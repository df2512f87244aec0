"""`python -m engines plugins`: what each plugin takes."""

from __future__ import annotations

import argparse

NAME = "plugins"
HELP = "the plugins, and what their fields take"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("names", nargs="*", metavar="PLUGIN", help="(default: all)")


def run(args: argparse.Namespace) -> int:
    """Print."""
    from trt_lane.errors import TrtLaneError
    from trt_lane.plugin_fields import read_plugins

    known = {plugin.name: plugin for plugin in read_plugins()}
    unknown = [name for name in args.names if name not in known]
    if unknown:
        raise TrtLaneError(f"no plugin {unknown[0]!r}; plugins: {', '.join(known)}")
    for name in args.names or known:
        print(known[name].describe())
    return 0
