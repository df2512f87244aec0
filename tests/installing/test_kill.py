"""Kill -9 at any moment of an installation or a rollback leaves one whole current engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_bundle import make_tiny_bundle

DRIVER = Path(__file__).with_name("kill_driver.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of a process")
@pytest.mark.parametrize("count", [21, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_at_a_random_moment_leaves_one_whole_current_engine(tmp_path, count):
    bundles = [make_tiny_bundle(tmp_path / f"b{seed}", seed) for seed in (0, 1)]
    root = tmp_path / "root"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, DRIVER, *bundles, root, str(count)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len(lines) == count and all(line["sound"] for line in lines)
    assert sum(line["killed"] for line in lines) > count / 3
    assert max(line["engines"] for line in lines) <= 3
    assert not list(root.glob(".staging.*"))
