"""Which lines of the kernels the cases run, by gcov; `make plugins-coverage`.

Exit status 1 when a .cu file has less than LEAST of its lines covered.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from plugin_builds import PLUGINS, Build, compiler, library, make_specs, run, sources  # noqa: E402

LEAST = 0.95


def main() -> int:
    """Build, run, print."""
    with tempfile.TemporaryDirectory() as folder:
        found = {path: coverage(path, Path(folder)) for path in measured(Path(folder))}
    low = False
    for path, lines in found.items():
        share = sum(lines.values()) / len(lines)
        missed = [str(number) for number, covered in lines.items() if not covered]
        low |= share < LEAST
        print(
            f"{path.name:28} {share:7.1%}" + (f"  not run: {', '.join(missed)}" if missed else "")
        )
    return int(low or not found)


def measured(folder: Path) -> list[Path]:
    """The .cu files, after all cases ran through a library that counts their lines."""
    specs, kernels, objects = make_specs(), sources(".cu"), []
    flags = [f for f in Build(kernels=True).flags if not f.startswith("-O")]
    for source in (PLUGINS / "host.cpp", PLUGINS / "common" / "registry.cpp", *kernels):
        counted = ["--coverage"] if source in kernels else []
        objects.append(folder / f"{source.stem}.o")
        includes = ["-I", PLUGINS, "-I", specs.parent]
        run([compiler(), *flags, "-O0", *counted, *includes, "-c", "-x", "c++", source,
             "-o", objects[-1]])  # fmt: skip
    out = folder / "kernels.so"
    run([compiler(), "-shared", "--coverage", *objects, "-o", out])
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")])
    host = library(Build(kernels=False))
    run([sys.executable, HERE / "run_cases.py", host, out], env={**os.environ, "PYTHONPATH": path})
    return kernels


def coverage(source: Path, folder: Path) -> dict[int, bool]:
    """Whether each line of code was run, in any of the instances of a template."""
    name = os.environ.get("GCOV", "gcov")
    said = run([name, "--json-format", "--stdout", "-o", folder, folder / f"{source.stem}.o"])
    lines: dict[int, bool] = {}
    for file in json.loads(said.stdout)["files"]:
        if Path(file["file"]).name == source.name:
            for line in file["lines"]:
                number = line["line_number"]
                lines[number] = lines.get(number, False) or line["count"] > 0
    return dict(sorted(lines.items()))


if __name__ == "__main__":
    sys.exit(main())
