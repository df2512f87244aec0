"""`python -m engines lint`: check a Q/DQ ONNX against TensorRT's rules."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

NAME = "lint"
HELP = "check a Q/DQ ONNX against TensorRT's rules; exit status 1 when there are findings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("onnx", type=Path, help="the ONNX to check, ours or anyone's")
    parser.add_argument("--json", action="store_true", help="findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Lint and print."""
    from engines.lint import RULES, lint_file

    findings = lint_file(args.onnx)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.rule}: {finding.node}: {finding.message}")
        print(f"lint: {len(findings)} findings by {len(RULES)} rules in {args.onnx}")
    return 1 if findings else 0
