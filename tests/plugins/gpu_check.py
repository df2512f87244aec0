"""`make gpu-check`: the plugins on a real GPU, with one report file.

    python tests/plugins/gpu_check.py --library FILE [--out FILE]

Every case against numpy, every plugin in a CUDA graph and in a TensorRT engine of its own, all of
it under compute-sanitizer, and the time that each case takes. Exit status 0 when nothing differs,
1 when something does, 2 when there is no GPU to check on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from devices import CudaDevice, Device  # noqa: E402
from gpu_cases import all_checks, all_times  # noqa: E402
from gpu_engines import all_engines  # noqa: E402

from trt_lane.console import Parser, guarded  # noqa: E402
from trt_lane.files import write_json  # noqa: E402
from trt_lane.plugin_library import PluginLibrary, load_plugins  # noqa: E402

SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOUND_SOMETHING = 9  # exit status that compute-sanitizer is asked for


def check(device: Device, library: PluginLibrary, tools: Iterable[str], engines: bool) -> dict:
    """The report: facts, what differs, times.

    Args:
        device: where the kernels run.
        library: with kernels.
        tools: of compute-sanitizer.
        engines: whether to build TensorRT engines.
    """
    report = {
        "schema": 1,
        "device": device.facts(),
        "library": library.path.name,
        "checks": list(all_checks(device, library)),
        "engines": _engines(device, library.path) if engines else {"left_out": "not asked for"},
        "sanitizer": {tool: _sanitized(tool, library.path) for tool in tools},
        "times": list(all_times(device, library)),
    }
    return {**report, "failures": failures(report)}


def failures(report: dict) -> list[str]:
    """One line for everything that is not as it should be."""
    compared = [*report["checks"], *report["engines"].get("checks", [])]
    lines = [f"{c['case']}: {c['difference']}" for c in compared if c["difference"]]
    for tool, found in report["sanitizer"].items():
        if found.get("status", 0):
            lines.append(f"compute-sanitizer {tool}: {found['last_line']}")
    return lines


def text_of(report: dict) -> str:
    """The report for people."""
    device = report["device"]
    compared = [*report["checks"], *report["engines"].get("checks", [])]
    lines = [f"{device['name']}, sm_{device['compute_capability']}"]
    same = sum(not c["difference"] for c in compared)
    lines.append(f"{same} of {len(compared)} cases give numpy's lanes and pixels")
    for part in ("engines", *(f"sanitizer {tool}" for tool in report["sanitizer"])):
        found = report["sanitizer"][part.split()[1]] if " " in part else report[part]
        if "left_out" in found:
            lines.append(f"{part}: left out, {found['left_out']}")
        elif " " in part:
            lines.append(f"{part}: {found['last_line']}")
    lines.append(f"{'':44}{'us':>9}{'GB/s':>9}{'of peak':>9}")
    for row in report["times"]:
        share = "" if row["of_peak"] is None else f"{100 * row['of_peak']:8.1f}%"
        lines.append(f"{row['case']:44}{row['us']:9.2f}{row['gb_per_s']:9.2f}{share:>9}")
    return "\n".join([*lines, *(f"FAILED {line}" for line in report["failures"])])


def _engines(device: Device, library: Path) -> dict:
    try:
        return {"checks": list(all_engines(device, library))}
    except ImportError as error:
        return {"left_out": f"TensorRT's Python is not installed ({error})"}


def _sanitized(tool: str, library: Path) -> dict:
    """What one tool of compute-sanitizer says of all cases."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).is_file():
        return {"left_out": "compute-sanitizer is not installed"}
    path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [program, "--tool", tool, "--error-exitcode", str(FOUND_SOMETHING),
         sys.executable, str(HERE / "gpu_cases.py"), str(library)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    return {"status": done.returncode, "last_line": lines[-1]}


def main(argv: list[str] | None = None, open_device: Callable[[], Device] = CudaDevice) -> int:
    """Check and write the report."""
    return guarded("gpu-check", lambda: _run(sys.argv[1:] if argv is None else argv, open_device))


def _run(argv: list[str], open_device: Callable[[], Device]) -> int:
    parser = Parser(prog="gpu-check", description="The plugins on a real GPU.")
    parser.add_argument("--library", type=Path, help="default: where make plugins puts it")
    parser.add_argument("--out", type=Path, default=Path("build/gpu_check.json"))
    parser.add_argument(
        "--tools", nargs="*", default=SANITIZERS, choices=SANITIZERS, help="of compute-sanitizer"
    )
    parser.add_argument("--no-engines", action="store_true", help="build no TensorRT engines")
    parser.add_argument("--only-device", action="store_true", help="only say which GPU is here")
    args: argparse.Namespace = parser.parse_args(argv)
    device = open_device()  # first: without one nothing else matters
    try:
        if args.only_device:
            print(device.facts()["name"])
            return 0
        library = load_plugins(args.library)
        report = check(device, library, args.tools, not args.no_engines)
    finally:
        device.close()
    write_json(args.out, report)
    print(text_of(report))
    print(f"report: {args.out}")
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
