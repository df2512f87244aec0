"""The gate in docs/benchmarks.md, run as a shell runs it."""

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

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


def test_every_command_in_the_document_is_one_that_there_is():
    from pkgutil import iter_modules

    from benchmarks import commands

    known = {m.name.replace("_", "-") for m in iter_modules(commands.__path__)}
    named = set(re.findall(r"-m benchmarks ([a-z-]+)", DOCUMENT.read_text(encoding="utf-8")))
    assert named and named <= known
