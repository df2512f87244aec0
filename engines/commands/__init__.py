"""The sub-commands of `python -m engines`, one file each.

A command has `NAME`, `HELP`, `add_arguments(parser)` and `run(args) -> status`.
"""
