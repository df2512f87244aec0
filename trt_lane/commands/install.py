"""`trt-lane install`: a bundle becomes the engine that runs, or is refused."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "install"
HELP = "check a bundle, build its engine here, prove it on golden frames, and make it current"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("bundle", type=Path, help="archive of `make bundle`")
    parser.add_argument("--root", type=Path, help="where engines live (default: /var/lib/trt_lane)")
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="public key in PEM that must have signed it, besides those in ROOT/keys",
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")


def run(args: argparse.Namespace) -> int:
    """Install and say what came out."""
    import sys

    from trt_lane.installing.install import install
    from trt_lane.installing.store import Store
    from trt_lane.progress import PhaseBar

    store = Store(args.root)
    with PhaseBar(sys.stderr) as bar:
        done = install(args.bundle, store, keys=args.key, threads=args.threads, progress=bar)
    artifact = done.artifact
    print(f"{done.name} is current in {store.root}")
    print(f"bundle     {done.signer}")
    print(f"engine     {artifact.model} for {artifact.target}, {artifact.runtime} "
          f"{artifact.built_with}, {artifact.precision}")  # fmt: skip
    print(f"decoder    {artifact.info['decoders']}")
    print(done.golden)
    back = "none" if done.previous is None else f"{done.previous}; back to it: trt-lane rollback"
    print(f"previous   {back}")
    return 0
