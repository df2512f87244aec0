"""The gate in docs/benchmarks.md, run as a shell runs it."""

import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import pytest
from run_make import make, needs_make

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


@pytest.fixture
def gate(tmp_path):
    """The workflow's step, with a program in the place of `.venv/bin/python`."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (step,) = re.findall(r"- name: no worse than the base\?\n +run: \|\n((?: {10}.*\n)+)", text)

    def run(status, verdict):
        python = tmp_path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        made = "mkdir -p build/ab && echo '{}' > build/ab/verdict.json\n" if verdict else ""
        python.write_text(f"#!/bin/sh\n{made}exit {status}\n")
        python.chmod(0o755)
        script = textwrap.dedent(step)
        return subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, check=False).returncode

    return run


@pytest.mark.parametrize(
    ("status", "verdict", "ends"),
    [(0, True, 0), (1, True, 1), (2, True, 0), (2, False, 2), (137, False, 137)],
)
def test_only_a_verdict_that_cannot_be_told_is_let_through(gate, status, verdict, ends):
    assert gate(status, verdict) == ends


def workflows():
    text = DOCUMENT.read_text(encoding="utf-8")
    return {
        re.search("^name: (.+)$", w, re.M)[1]: w
        for w in re.findall("```yaml\n(.*?)```", text, re.S)
    }


def jobs(workflow):
    parts = re.split(r"^  ([a-z]+):\n", workflow.split("\njobs:\n")[1], flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def files(job, action):
    """What a job's steps of that action name, by artifact."""
    found = {}
    for step in re.split(r"^      - ", job, flags=re.M):
        if f"actions/{action}@" in step:
            name = re.search(r"name: ([a-z]+)", step)[1]
            found[name] = re.findall(r"^ {12}(\S+)", step, re.M)
    return found


def test_both_workflows_are_whole():
    found = workflows()
    assert list(found) == ["benchmark", "jetson"]
    for workflow in found.values():
        assert re.search(r"^on: ", workflow, re.M) and jobs(workflow)
        for name, job in jobs(workflow).items():
            assert "runs-on:" in job and "actions/checkout@" in job, name


def test_what_the_jetson_downloads_and_reads_is_what_the_job_before_it_uploads():
    found = jobs(workflows()["jetson"])
    assert "needs: export\n" in found["gate"]
    uploaded = files(found["export"], "upload-artifact")
    assert files(found["gate"], "download-artifact").keys() == uploaded.keys() == {"onnx"}
    assert set(re.findall(r"\S+\.onnx", found["gate"])) == set(uploaded["onnx"])
    # An artifact keeps the folders below the last one that all of its files share.
    assert "name: onnx, path: build/ufld }" in found["gate"]


@needs_make
def test_the_goals_in_the_workflows_make_the_files_that_are_uploaded(tmp_path):
    for stamp in ("weights", "data", "frames", "budget"):
        path = tmp_path / "ufld" / f"{stamp}.stamp"
        path.parent.mkdir(exist_ok=True)
        path.touch()  # `make -n` writes none
    found = workflows()
    shown = {}
    for name, workflow in found.items():
        for line in re.findall(r"run: (make .+)", workflow):
            words = [w.replace("build/", f"{tmp_path}/") for w in shlex.split(line)[1:]]
            done = make("-n", *words, f"BUILD={tmp_path}")
            assert done.returncode == 0, (line, done.stderr)
            shown[name] = shown.get(name, "") + done.stdout
    for path in files(jobs(found["jetson"])["export"], "upload-artifact")["onnx"]:
        assert f"--out {path.replace('build/', f'{tmp_path}/')}" in shown["jetson"]
    for path in re.findall(r" build/(ufld/\S+/cpu)", found["benchmark"]):
        assert f"--out {tmp_path}/{path} " in shown["benchmark"]


def test_what_the_jetson_installs_is_used_and_reads_its_toml_and_its_gpu():
    (line,) = re.findall(r"pip install ((?:.+\n)+?) {6}- ", workflows()["jetson"])
    modules = {"opencv-python-headless": "cv2", "nvidia-ml-py": "pynvml"}
    root = DOCUMENT.parents[1]
    declared = (root / "pyproject.toml").read_text(encoding="utf-8")
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in ("trt_lane", "engines", "benchmarks")
        for path in (root / package).rglob("*.py")
    )
    packages = shlex.split(line)
    for package in packages:
        name = package.partition(">=")[0]
        module = modules.get(name, name)
        assert re.search(rf"^ *(import|from) {module}\b", code, re.M), package
        # Without a bound pip is content with what the system has, of years ago.
        assert f'"{package.replace("-headless", "")}' in declared, package
    assert {"tomli", "nvidia-ml-py"} <= {package.partition(">=")[0] for package in packages}


@pytest.mark.parametrize("package", ["benchmarks", "engines"])
def test_every_command_in_the_document_is_one_that_there_is(package):
    from importlib import import_module
    from pkgutil import iter_modules

    commands = import_module(f"{package}.commands")
    known = {m.name.replace("_", "-") for m in iter_modules(commands.__path__)}
    named = set(re.findall(rf"-m {package} ([a-z-]+)", DOCUMENT.read_text(encoding="utf-8")))
    assert named and named <= known
