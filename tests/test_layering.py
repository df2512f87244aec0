"""Imports point one way, and the vehicle's package loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# package -> the packages of this project that it may import besides itself (ARCHITECTURE, 2).
MAY_IMPORT = {
    "trt_lane": set(),
    "engines": {"trt_lane"},
    "calibrators": {"trt_lane"},
    "training": {"trt_lane", "calibrators"},
    "benchmarks": {"trt_lane", "engines"},
}
HEAVY = {"torch", "torchvision", "safetensors"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_modules(path: Path, module_level_only: bool = False) -> set[str]:
    """Full names that a file imports, `if TYPE_CHECKING:` blocks left out."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), str(path))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            found.add(".".join(filter(None, (package, node.module))))
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse
            continue
        elif module_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        pending += ast.iter_child_nodes(node)
    return found


def top_levels(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_between_packages_point_one_way(package):
    files = sources(package)
    if not files:
        pytest.skip(f"{package}/ is not here")
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in top_levels(imported_modules(path)) & forbidden
    }
    assert not wrong


def test_only_models_import_torch():
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("trt_lane")
        if (ROOT / "trt_lane" / "models") not in path.parents
        for name in top_levels(imported_modules(path)) & HEAVY
    }
    assert not wrong


def test_only_the_model_registry_and_the_models_command_reach_into_models():
    allowed = {"model.py", "commands/models.py"}
    wrong = {
        str(path.relative_to(ROOT))
        for path in sources("trt_lane")
        if (ROOT / "trt_lane" / "models") not in path.parents
        and path.relative_to(ROOT / "trt_lane").as_posix() not in allowed
        and any(name.startswith("trt_lane.models") for name in imported_modules(path))
    }
    assert not wrong


def test_module_level_of_the_vehicle_package_needs_only_numpy_and_opencv():
    allowed = {"numpy", "cv2", "trt_lane", *sys.stdlib_module_names}
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("trt_lane")
        if not {"models", "backends"} & set(path.relative_to(ROOT / "trt_lane").parts[:1])
        for name in top_levels(imported_modules(path, module_level_only=True)) - allowed
    }
    assert not wrong


@pytest.mark.parametrize(
    "statement",
    [
        "import trt_lane",
        "import trt_lane.datasets, trt_lane.metrics.report, trt_lane.lanes",
        "from trt_lane import LaneSet, ImageSpec, LaneModel",
        "from trt_lane.cli import main; main(['score', 'culane', '--help'])",
    ],
)
def test_fresh_process_loads_neither_torch_nor_an_engine_runtime(statement):
    check = (
        "import sys\n"
        f"try:\n    exec({statement!r})\nexcept SystemExit:\n    pass\n"
        "heavy = ('torch', 'tensorrt', 'tensorrt_rtx', 'onnxruntime', 'onnx', 'scipy', 'pycuda')\n"
        "loaded = [m for m in heavy if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_plain_import_loads_not_even_numpy():
    check = "import sys, trt_lane; assert not {'numpy', 'cv2'} & sys.modules.keys()"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_run_starts_without_libraries_that_only_others_need():
    check = (
        "import sys\nfrom trt_lane.cli import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "import trt_lane.detector, trt_lane.runtime.loop, trt_lane.installing.store\n"
        "others = {'importlib.metadata', 'concurrent.futures', 'logging', 'email', 'zipfile'}\n"
        "assert not others & sys.modules.keys(), others & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
