"""The sub-commands of `trt-lane`, one file each.

A command is a file here with `NAME`, `HELP`, `add_arguments(parser)` and `run(args) -> status`. Its
module level imports only what its arguments need, so that `trt-lane --help` stays instant; a user's
mistake is a TrtLaneError, which trt_lane.cli prints as one line.
"""
