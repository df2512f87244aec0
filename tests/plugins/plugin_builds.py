"""Builds what the tests of the plugins load: object by object, kept from run to run by content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLUGINS = ROOT / "plugins"
sys.path.append(str(PLUGINS / "common"))

import resources  # noqa: E402

# Objects by digest of all that goes into them; `make clean` removes them.
CACHE = ROOT / "build" / "plugins" / "tests"
FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
# numpy rounds after every operation, and so must we; no code looks at floating-point flags, and the
# compiler makes vector code of more loops when it knows.
EXACT = ("-ffp-contract=off", "-fno-trapping-math")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g1")
EXECUTION = ("-DTRT_LANE_KERNELS", "-include", str(HERE / "cpu_execution.h"))


@dataclass(frozen=True)
class Build:
    """A library: `kernels` runs the .cu files on the CPU, else the host's decoders are in it."""

    kernels: bool
    sanitized: bool = False
    portable: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """For the compiler."""
        optimised = "-O1" if self.kernels or self.sanitized else "-O3"
        return (
            *FLAGS,
            *EXACT,
            optimised,
            *(SANITIZERS if self.sanitized else ()),
            *(("-DTRT_LANE_NO_SIMD",) if self.portable else ()),
            *(EXECUTION if self.kernels else ()),
        )


def compiler() -> str | None:
    """The C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


def library(build: Build) -> Path:
    """The shared library of a build, made when something in it changed."""
    specs = make_specs()
    kernels = sources(".cu") if build.kernels else []
    files = [PLUGINS / "host.cpp", PLUGINS / "common" / "registry.cpp", *kernels]
    objects = _objects([(source, build.flags) for source in files], specs)
    out = CACHE / f"{_digest_of_names(objects)}.so"
    if not out.is_file():
        draft = out.with_suffix(f".{os.getpid()}")
        linked = [f for f in build.flags if f.startswith("-fsanitize")]
        run([compiler(), "-shared", *linked, *objects, "-o", draft])
        draft.replace(out)
    return out


def shell_driver(build: Build, tensorrt_include: Path) -> Path:
    """The program that plays TensorRT, with the shells and the kernels of a build."""
    assert build.kernels
    specs = make_specs()
    version = hashlib.sha256()
    for path in sorted(tensorrt_include.glob("NvInfer*.h")):
        version.update(path.read_bytes())
    # CUDA's own types here: the shells know nothing of how kernels are run.
    system = ("-isystem", str(tensorrt_include), "-isystem", str(cuda_include()))
    flags = (*FLAGS, *EXACT, "-O1", "-DTRT_LANE_KERNELS", *system, f"-DV{version.hexdigest()[:9]}")
    shells = [
        HERE / "shell_driver.cpp",
        PLUGINS / "common" / "shell.cpp",
        PLUGINS / "common" / "creators.cpp",
        *sources("_plugin.cpp"),
    ]
    rest = [PLUGINS / "common" / "registry.cpp", *sources(".cu")]
    objects = _objects(
        [*((source, flags) for source in shells), *((source, build.flags) for source in rest)],
        specs,
    )
    out = CACHE / f"shell_driver.{_digest_of_names(objects)}"
    if not out.is_file():
        draft = out.with_suffix(f".{os.getpid()}")
        run([compiler(), *objects, "-o", draft])
        draft.replace(out)
    return out


def cuda_include() -> Path | None:
    """The folder of cuda_runtime_api.h that belongs to nvcc, or None."""
    found = resources.nvcc()
    if found is None:
        return None
    top = Path(found).resolve().parents[1]
    said = run([found, "--dryrun", "-c", "-x", "cu", "/dev/null", "-o", "/dev/null"]).stderr
    for line in said.splitlines():
        if ' INCLUDES="-I' in line:
            top = Path(line.split('"-I')[1].split('"')[0])
    return top if (top / "cuda_runtime_api.h").is_file() else None


def _objects(jobs: list[tuple[Path, tuple[str, ...]]], specs: Path) -> list[Path]:
    """The objects of sources with their flags, as many compilers at a time as there are cores."""
    cores = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(lambda job: _object(*job, specs), jobs))


def _digest_of_names(objects: list[Path]) -> str:
    names = " ".join(path.name for path in objects)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _object(source: Path, flags: tuple[str, ...], specs: Path) -> Path:
    folders = [source.parent] if source.suffix == ".cu" else [PLUGINS / n for n in selected()]
    own = [path for folder in folders for path in folder.glob("*.h")]
    headers = sorted({*own, *(PLUGINS / "common").glob("*.h"), PLUGINS / "host.h"})
    content = [source, *sorted(HERE.glob("cpu_*.h")), *headers]
    digest = hashlib.sha256(f"{compiler()} {flags} {source.name}".encode())
    for path in [*content, *([] if source.suffix == ".cu" else [specs])]:
        digest.update(path.read_bytes())
    out = CACHE / f"{source.stem}.{digest.hexdigest()[:16]}.o"
    if not out.is_file():
        language = ("-x", "c++") if source.suffix == ".cu" else ()
        draft = out.with_suffix(f".{os.getpid()}.o")
        includes = ("-I", PLUGINS, "-I", specs.parent)
        run([compiler(), *flags, *includes, "-c", *language, source, "-o", draft])
        draft.replace(out)
    return out


def make_specs() -> Path:
    """The field tables; gives their header."""
    folder = CACHE / f"specs.{'-'.join(selected())}"
    run([sys.executable, PLUGINS / "common" / "generate.py", folder, *selected()])
    return folder / "specs.h"


def selected() -> list[str]:
    """The plugins that are built and tested: all, or those that TRT_LANE_ONLY names."""
    names = os.environ.get("TRT_LANE_ONLY", "").split()
    wanted = {*names, "preprocess"} if names else None
    found = sorted(path.stem for path in PLUGINS.glob("*/*.yaml"))
    return [name for name in found if wanted is None or name in wanted]


def sources(ending: str) -> list[Path]:
    """The files of that ending of the selected plugins, and of what they share."""
    paths = (PLUGINS / name / f"{name}{ending}" for name in selected())
    shared = sorted((PLUGINS / "common").glob(f"*{ending}")) if ending == ".cu" else []
    return [*shared, *(path for path in paths if path.is_file())]


def run(command: list, **options: object) -> subprocess.CompletedProcess:
    """Run a program; what it said is the error when it fails."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done
