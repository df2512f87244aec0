"""`python -m engines attach`: the decoder's plugin behind the heads of an ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "attach"
HELP = "put the decoder's TensorRT plugin behind the heads, for trtexec --dynamicPlugins and others"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("onnx", type=Path, help="ONNX from `python -m engines export`")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX to write")
    parser.add_argument(
        "--slots", type=int, help="lanes that the outputs have room for (default: all)"
    )


def run(args: argparse.Namespace) -> int:
    """Attach and say what the node is."""
    from engines.attach import DOMAIN, attach, plugin_nodes
    from engines.card import read_onnx
    from trt_lane.files import write_bytes

    more = {} if args.slots is None else {"slots": args.slots}
    attached = attach(read_onnx(args.onnx), **more)
    write_bytes(args.out, attached.SerializeToString(deterministic=True))
    node = plugin_nodes(attached)[0]
    print(f"{args.out}  {DOMAIN}::{node.op_type} reads {', '.join(node.input)}")
    print(f"outputs: {', '.join(node.output)} (plugins/README.md says what they hold)")
    return 0
