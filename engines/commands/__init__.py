"""The sub-commands of `python -m engines`, one file each: NAME, HELP, add_arguments(parser), run(args)."""
