"""What no line of the project may do (docs/security.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("trt_lane", "engines", "calibrators", "benchmarks", "training")
SOURCES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def calls(path: Path) -> list[ast.Call]:
    return [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]


def keywords(call: ast.Call) -> dict[str, str]:
    return {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_shell_no_pickle_no_eval(path):
    for call in calls(path):
        name, given = ast.unparse(call.func), keywords(call)
        assert given.get("shell", "False") == "False", f"{path}:{call.lineno} starts a shell"
        assert name not in ("eval", "exec", "os.system", "os.popen", "subprocess.getoutput")
        assert not name.startswith(("pickle.load", "pickle.Unpickler", "marshal.load"))
        assert given.get("allow_pickle", "False") == "False"
        if name == "torch.load":
            assert given.get("weights_only") == "True", f"{path}:{call.lineno} may run a pickle"


def test_a_vehicle_unpacks_no_archive_by_the_names_inside():
    """Bundles are read by trt_lane.bundle.archive, which knows every byte before it writes one."""
    for path in sorted((ROOT / "trt_lane").rglob("*.py")):
        if "models" in path.parts:  # the workshop's: no vehicle loads them
            continue
        for call in calls(path):
            name = ast.unparse(call.func)
            assert not name.startswith(("tarfile.", "zipfile.", "shutil.unpack")), path


def test_sockets_of_the_vehicle_go_out_only():
    """Nothing on a vehicle listens: no bind, no listen, no server."""
    for path in sorted((ROOT / "trt_lane").rglob("*.py")):
        for call in calls(path):
            attribute = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            assert attribute not in ("bind", "listen", "accept"), f"{path}:{call.lineno}"


def test_engines_are_deserialised_by_the_backends_only():
    """Who opens an engine was given an EngineArtifact, whose digests were compared."""
    names = ("deserialize_cuda_engine", "InferenceSession")
    allowed = {"backends/onnxruntime.py", "backends/tensorrt_module.py", "building/process.py"}
    found = {
        path.relative_to(ROOT / "trt_lane").as_posix()
        for path in sorted((ROOT / "trt_lane").rglob("*.py"))
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr in names
    }
    assert found <= allowed
