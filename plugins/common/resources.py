"""Compiles the kernels for every GPU that we support, and says what each of them takes.

    python3 plugins/common/resources.py [PLUGIN ...]          compares with the tables
    python3 plugins/common/resources.py --write [PLUGIN ...]  writes plugins/<name>/resources.txt

The tables are of one nvcc, because another one allots registers in another way. Warnings, spills
and local memory are errors with any.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[1]
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 110, 120)
TABLE = "resources.txt"
FLAGS = ("-std=c++17", "-O3", "--fmad=false", "-Werror", "all-warnings", "-DTRT_LANE_KERNELS")
# One intermediate code for all: its compilation takes longer than the eight assemblies together.
GENCODE = "arch=compute_75,code=[{}]"


def nvcc() -> str | None:
    """CUDA's compiler: NVCC, on the PATH, or from PyPI by the extra `cuda`; or None."""
    found = shutil.which(os.environ.get("NVCC", "nvcc"))
    in_packages = (Path(p) / "nvidia" / "cu13" / "bin" / "nvcc" for p in sys.path)
    return found or next((str(path) for path in in_packages if path.is_file()), None)


def nvcc_version(compiler: str) -> str:
    """Its release, as "13.0"."""
    text = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout
    return re.search(r"release (\d+\.\d+)", text)[1]


def architectures(compiler: str) -> list[int]:
    """Those of ours that the compiler knows."""
    text = subprocess.run(
        [compiler, "--list-gpu-code"], capture_output=True, text=True, check=True
    ).stdout
    return [a for a in ARCHITECTURES if f"sm_{a}\n" in text]


def compile_kernels(compiler: str, source: Path, specs: Path) -> str:
    """What ptxas says of the kernels of a .cu file; a warning or a spill is a RuntimeError."""
    code = ",".join(f"sm_{a}" for a in architectures(compiler))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *(compiler, *FLAGS, "-Xptxas", "-v,-warn-spills,-warn-lmem-usage", "-fatbin"),
                *("-gencode", GENCODE.format(code), "-I", PLUGINS, "-I", specs),
                *(source, "-o", Path(folder) / "kernels.fatbin"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    text = done.stdout + done.stderr
    spills = [n for n in re.findall(r"(\d+) bytes (?:stack frame|spill \w+)", text) if int(n)]
    if done.returncode or spills:
        raise RuntimeError(f"{source}: {'local memory' if spills else 'not compiled'}\n{text}")
    return text


def resources(text: str) -> dict[str, dict[int, tuple[int, int]]]:
    """Registers and bytes of shared memory by kernel and architecture, from ptxas' words."""
    found: dict[str, dict[int, tuple[int, int]]] = {}
    entry = r"entry function '(\w+)' for 'sm_(\d+)'.*?Used (\d+) registers([^\n]*)"
    for name, architecture, registers, rest in re.findall(entry, text, re.DOTALL):
        shared = re.search(r"(\d+) bytes smem", rest)
        used = int(registers), int(shared[1]) if shared else 0
        found.setdefault(_plain(name), {})[int(architecture)] = used
    return dict(sorted(found.items()))


def table(version: str, found: dict[str, dict[int, tuple[int, int]]]) -> str:
    """The content of resources.txt."""
    known = sorted({a for kernel in found.values() for a in kernel})
    width = max(map(len, found))
    head = f"{f'nvcc {version}':{width}}" + "".join(f"{f'sm_{a}':>12}" for a in known)
    rows = [
        f"{name:{width}}" + "".join("{:>12}".format("{} {}".format(*kernel[a])) for a in known)
        for name, kernel in found.items()
    ]
    note = "registers of a thread and bytes of shared memory of a block; no local memory\n"
    return note + "\n".join([head, *rows]) + "\n"


def _plain(mangled: str) -> str:
    """row_anchor_locate_kernel<float> of a mangled name."""
    done = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True)
    return re.search(r"(\w+_kernel(?:<.*>)?)\(", done.stdout)[1].replace("trt_lane::", "")


def main() -> int:
    """Compare or write; exit status 1 when a table differs."""
    words = sys.argv[1:]
    write, names = "--write" in words, [w for w in words if w != "--write"]
    compiler = nvcc()
    if compiler is None:
        print("no nvcc here; run: pip install '.[cuda]'", file=sys.stderr)
        return 2
    version, different = nvcc_version(compiler), 0
    with tempfile.TemporaryDirectory() as specs:
        subprocess.run([sys.executable, PLUGINS / "common" / "generate.py", specs], check=True)
        for source in sorted(PLUGINS.glob("*/*.cu")):
            if names and source.stem not in names:
                continue
            text = table(version, resources(compile_kernels(compiler, source, Path(specs))))
            path = source.with_name(TABLE)
            if write:
                path.write_text(text, encoding="utf-8")
            elif not path.is_file() or path.read_text(encoding="utf-8") != text:
                different += 1
                print(f"{path} differs from what nvcc {version} gives:\n{text}", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
